"""Runs an uplink, or the desk of commands alone: an event loop in a thread, started and joined by the node."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from myrvm_cloud.name_lookup import NameLookup

JOIN_TIMEOUT_S = 5.0


class Served(Protocol):
    """What runs in the loop until it is cancelled."""

    async def run(self) -> None:
        """See there."""
        ...


S = TypeVar("S", bound=Served)
T = TypeVar("T")


class UplinkThread(Generic[S]):
    """Owns the loop and the thread. Its methods are called by the node's thread.

    Args:
        make: builds it; called in the thread, within its loop.
        log: of the node.
    """

    def __init__(self, make: Callable[[], S], log: Any) -> None:
        self._make, self._log = make, log
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="cloud", daemon=True)

    def start(self) -> None:
        """Begin; returns at once, whatever the network does."""
        self._thread.start()
        self._started.wait(JOIN_TIMEOUT_S)

    def stop(self) -> None:
        """End and join."""
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            self._log.error("the thread of the cloud bridge does not end", limit_s=JOIN_TIMEOUT_S)

    def tell(self, what: Callable[[S], object]) -> None:
        """Call `what` with what runs, in its loop."""
        self._loop.call_soon_threadsafe(lambda: what(self._served))

    def ask(self, what: Callable[[S], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run `what` with what runs, in its loop. The future fails as the coroutine does."""

        async def asked() -> T:
            return await what(self._served)

        return asyncio.run_coroutine_threadsafe(asked(), self._loop)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        NameLookup(self._loop).use()
        self._served = self._make()
        self._task = asyncio.ensure_future(self._served.run())
        self._started.set()
        try:
            await self._task
        except asyncio.CancelledError:
            self._log.debug("cloud bridge stopped")
