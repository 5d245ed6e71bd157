"""A cancellation is never lost, also where it comes together with what was waited for."""

from __future__ import annotations

import asyncio

import pytest
from myrvm_cloud.time_limit import within


async def test_a_cancellation_that_comes_with_the_result_counts() -> None:
    came = asyncio.Event()
    waiting = asyncio.ensure_future(within(60.0, came.wait()))
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.0)
    came.set()
    await asyncio.sleep(0.0)  # the inner wait has ended, the outer one has not run yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_result_the_error_and_the_limit_come_out() -> None:
    async def fails() -> None:
        raise OSError("broken")

    assert await within(60.0, asyncio.sleep(0.0, "here")) == "here"
    with pytest.raises(OSError, match="broken"):
        await within(60.0, fails())
    never = asyncio.ensure_future(asyncio.Event().wait())
    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, never)
    with pytest.raises(asyncio.CancelledError):
        await never
