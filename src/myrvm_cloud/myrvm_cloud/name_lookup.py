"""Looking host names up so that a name service that hangs holds up nothing else.

A loop's own lookups share the few threads of its default executor with all that goes to the disk, and its end waits for
them: with a name server that does not answer, for minutes. Nothing can stop one; so each has a daemon thread of its
own that nobody waits for, and there are `LOOKUPS` at most.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

LOOKUPS = 8  # under way at once; of those that hang, too


class NameLookup:
    """The lookups of one event loop; `use` puts them in the place of the loop's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way = 0

    def use(self) -> None:
        """For all that connects in this loop: asyncio, aiohttp and websockets ask `loop.getaddrinfo`."""
        self._loop.getaddrinfo = self.getaddrinfo  # pyright: ignore[reportAttributeAccessIssue]

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Any:
        """As `loop.getaddrinfo`; cancelled, it leaves its thread to its end.

        Raises:
            OSError: the name is not known, or too many lookups hang.
        """
        if self._under_way == LOOKUPS:
            raise socket.gaierror(socket.EAI_AGAIN, f"the name service hangs: {LOOKUPS} lookups have no answer")
        answer: asyncio.Future[Any] = self._loop.create_future()

        def ended(found: Any, error: Exception | None) -> None:
            self._under_way -= 1
            if answer.done():
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def look_up() -> None:
            found, error = None, None
            try:
                found = socket.getaddrinfo(host, port, **options)
            except (OSError, ValueError) as failed:  # ValueError: a name that cannot be encoded
                error = failed
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(ended, found, error)

        self._under_way += 1
        threading.Thread(target=look_up, name="name lookup", daemon=True).start()
        return await answer
