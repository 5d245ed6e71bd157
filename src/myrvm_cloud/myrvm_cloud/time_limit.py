"""Waiting for something at most so long, in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(limit_s: float, waiting: Awaitable[T]) -> T:
    """As `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes together with the result.

    Raises:
        asyncio.TimeoutError: it did not come within `limit_s`; it is cancelled.
    """
    task = asyncio.ensure_future(waiting)
    try:
        await asyncio.wait({task}, timeout=limit_s)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()
