"""A TCP proxy on the loopback that breaks the line on request: delays, freezes, cuts, refuses. For tests and benches.

It knows bytes only, so it stands between any client and server. What it does is changed while it runs:

    async with FaultProxy("127.0.0.1", server_port, delay_s=0.05) as proxy:
        ...                            # connect to 127.0.0.1:proxy.port
        proxy.freeze()                 # half-open: nothing moves, nobody is told
        proxy.freeze(upstream=False)   # the server still hears, its answers are lost
        proxy.thaw()
        proxy.cut()                    # every connection is reset
        await proxy.refuse()           # the port is closed, and every connection reset
        await proxy.listen()           # open again, on the same port
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType

CHUNK_BYTES = 65_536
CHUNKS_UNDER_WAY = 64
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger: close(2) sends RST


class FaultProxy:
    """Passes bytes on to `host`:`port`; `delay_s` is added each way and may be changed at any time.

    `accepted` counts connections, `sent_bytes` and `received_bytes` what went to the server and came from it.
    """

    def __init__(self, host: str, port: int, delay_s: float = 0.0, listen_host: str = "127.0.0.1") -> None:
        self.target = (host, port)
        self.delay_s = delay_s
        self.listen_host = listen_host
        self.port = 0
        self.accepted = self.sent_bytes = self.received_bytes = 0
        self._upstream, self._downstream = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.thaw()

    async def __aenter__(self) -> FaultProxy:
        await self.listen()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.refuse()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._tasks)

    async def listen(self) -> None:
        """Accept connections; after `refuse` on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.listen_host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close the port and reset every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection; what is under way is lost."""
        for task in self._tasks:
            task.cancel()

    def freeze(self, *, upstream: bool = True, downstream: bool = True) -> None:
        """Move nothing to the server (`upstream`) or from it (`downstream`), on present and later connections."""
        for flow, frozen in ((self._upstream, upstream), (self._downstream, downstream)):
            flow.clear() if frozen else flow.set()

    def thaw(self) -> None:
        """Let everything move again; what was held back arrives now."""
        self.freeze(upstream=False, downstream=False)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):  # the end of this connection, and of this task only
            _reset(writer)
        finally:
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._upstream.wait()  # a frozen line opens no connection further on
        server_reader, server_writer = await asyncio.open_connection(*self.target)
        ways = [
            asyncio.ensure_future(self._one_way(reader, server_writer, self._upstream)),
            asyncio.ensure_future(self._one_way(server_reader, writer, self._downstream)),
        ]
        try:
            await asyncio.gather(*ways)
        except BaseException:
            _reset(server_writer)
            raise
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        for open_writer in (writer, server_writer):
            open_writer.close()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: asyncio.Event) -> None:
        """Pass bytes on `delay_s` after they came, in order, until the sender has ended and all has arrived."""
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes | OSError]] = asyncio.Queue(CHUNKS_UNDER_WAY)

        async def take() -> None:
            data: bytes | OSError = b"more"
            while data and isinstance(data, bytes):
                try:
                    data = await reader.read(CHUNK_BYTES)
                except OSError as reset:
                    data = reset
                await under_way.put((clock() + self.delay_s, data))

        taking = asyncio.ensure_future(take())
        try:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - clock())
                await flow.wait()
                if isinstance(data, OSError):
                    raise data
                if not data:
                    break
                if flow is self._upstream:
                    self.sent_bytes += len(data)
                else:
                    self.received_bytes += len(data)
                writer.write(data)
                await writer.drain()
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
        with contextlib.suppress(OSError):  # the other side may have closed already
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a farewell."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
