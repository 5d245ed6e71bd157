"""The line on which the server's events come: a WebSocket (`websockets`) around the state machines of this package.

`run` is one task of the owner's, cancelled to end it; it never gives up and raises nothing. What comes is read by
iterating. Nothing that comes is trusted, and nothing that is lost is missed: a `CatchUp` says when to ask over REST.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from myrvm_core.errors import RvmError, ServerError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from myrvm_cloud.event_protocol import (
    MESSAGE_CHARACTERS,
    Authorize,
    Close,
    EventProtocol,
    Retry,
    SendPing,
    SendText,
)
from myrvm_cloud.events import CatchUp, Event, LineChanged, LineState, Malformed, excerpt
from myrvm_cloud.pusher import Pusher
from myrvm_cloud.reconnect import Reconnect
from myrvm_cloud.time_limit import within

QUEUE_EVENTS = 256
CLOSE_LIMIT_S = 2.0
HAPPY_EYEBALLS_S = 0.25
PASSING_STATUS = frozenset({408, 425, 429})
LONGEST_RETRY_AFTER_S = 300.0
_QUIET = logging.getLogger("myrvm_cloud.websockets")
_QUIET.setLevel(logging.WARNING)  # at DEBUG the library writes headers and URLs: the token is in one of them


@dataclass(frozen=True)
class Leave:
    """The server's leave to join a channel: the answer of its /broadcasting/auth."""

    auth: str
    channel_data: str | None = None

    def __repr__(self) -> str:
        return "Leave(**********)"


AskLeave = Callable[[str, str], Awaitable[Leave]]
"""Asks the server over REST whether `channel` may be joined by the connection `socket_id`; RvmError where not."""


class _Connect(connect):
    """Follows no redirect: the token goes to the host that was configured, and to no other."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


@dataclass(frozen=True)
class _End:
    """How a connection, or the try to make one, ended."""

    retry: Retry
    reason: str
    at_least_s: float = 0.0


class EventLine:
    """One line.

    Args:
        protocol: makes the state machine of one connection, with what is configured now (a changed key counts from the
            next connection on).
        ask_leave: for private and presence channels; None where there are none.
        tls: what a wss:// server is checked with.
        reconnect: the waits between connections.
        open_timeout_s: for TCP, TLS and the WebSocket's handshake together.
        log: a structlog logger.
    """

    def __init__(
        self,
        protocol: Callable[[], EventProtocol],
        ask_leave: AskLeave | None,
        tls: ssl.SSLContext,
        reconnect: Reconnect,
        log: Any,
        open_timeout_s: float = 10.0,
    ) -> None:
        self._make = protocol
        self._ask_leave = ask_leave
        self._tls = tls
        self._reconnect = reconnect
        self._log = log
        self._open_timeout_s = open_timeout_s
        self._queue: asyncio.Queue[Event] = asyncio.Queue(QUEUE_EVENTS)
        self._overflowed = False
        self._kick = asyncio.Event()
        self._wake = asyncio.Event()
        self._protocol: EventProtocol | None = None
        self.state = LineState.OFFLINE
        self.reason = ""
        self.dropped = 0
        self.connections = 0

    # For the consumer

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._overflowed and self._queue.empty():
            self._overflowed = False
            return CatchUp("more events came than were taken")
        return await self._queue.get()

    def retry_now(self) -> None:
        """Something has changed (configuration, network): connect now instead of waiting."""
        self._kick.set()

    def send_client_event(self, channel: str, name: str, data: Any) -> None:
        """Tell the other subscribers of a private or presence channel, soon.

        Raises:
            ServerError: there is no Pusher connection now, or `Pusher.send_client_event` says no.
        """
        if not isinstance(self._protocol, Pusher):
            raise ServerError(f"client event {name}: there is no connection that carries one")
        self._protocol.send_client_event(channel, name, data, time.monotonic())
        self._wake.set()

    # For the owner

    async def run(self) -> None:
        """Keep the line; until it is cancelled."""
        while True:
            self._kick.clear()
            self._put(LineChanged(LineState.CONNECTING))
            try:
                end = await self._one_connection()
            except RvmError as error:  # the configuration names no connection that can be made
                end = _End(Retry.SLOWLY, str(error))
            except Exception:  # a defect of ours: the machine serves on, and so does this line
                self._log.exception("event line failed")
                end = _End(Retry.BACK_OFF, "a defect of this software, see the log")
            wait_s = self._reconnect.wait_s(end.retry, time.monotonic(), end.at_least_s)
            refused = end.retry is Retry.SLOWLY
            self._log.warning("no event line", reason=end.reason, retry_s=round(wait_s, 2), refused=refused)
            self._put(LineChanged(LineState.REFUSED if refused else LineState.OFFLINE, end.reason))
            with contextlib.suppress(asyncio.TimeoutError):
                await within(wait_s, self._kick.wait())

    async def _one_connection(self) -> _End:
        protocol = self._make()
        try:
            connection = _Connect(
                protocol.url,
                additional_headers=dict(protocol.headers),
                ssl=self._tls if protocol.url.startswith("wss:") else None,
                compression=None,
                ping_interval=None,  # the protocols' own pings are judged by them
                open_timeout=self._open_timeout_s,
                close_timeout=CLOSE_LIMIT_S,
                max_size=MESSAGE_CHARACTERS * 4,
                logger=_QUIET,
                happy_eyeballs_delay=HAPPY_EYEBALLS_S,
            )
            socket = await connection
        except InvalidStatus as error:
            return _status(error)
        except ImportError:
            return _End(Retry.SLOWLY, "not connected: the environment names a SOCKS proxy, which needs python-socks")
        except (OSError, asyncio.TimeoutError, InvalidHandshake, EOFError) as error:
            return _End(Retry.SOON, f"not connected: {type(error).__name__} {excerpt(error)}".strip())
        except WebSocketException:  # its text holds a URL, and that a token or the proxy's password
            return _End(Retry.SLOWLY, "the WebSocket's URL, or that of the proxy in the environment, cannot be used")
        self.connections += 1
        self._reconnect.connected(time.monotonic())
        self._protocol = protocol
        try:
            return await self._converse(protocol, socket)
        finally:
            self._protocol = None
            await socket.close()

    async def _converse(self, protocol: EventProtocol, socket: ClientConnection) -> _End:
        """Carry messages and time to the state machine, and out what it says, until the connection ends."""
        protocol.opened(time.monotonic())
        receiving = asyncio.ensure_future(socket.recv())
        waking = asyncio.ensure_future(self._wake.wait())
        asides: set[asyncio.Task[None]] = set()
        try:
            while True:
                left = await self._carry_out(protocol, socket, asides)
                if left is not None:
                    return left
                wait_s = max(0.0, protocol.deadline_s - time.monotonic())
                await asyncio.wait({receiving, waking, *asides}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for aside in [aside for aside in asides if aside.done()]:
                    asides.discard(aside)
                    aside.result()
                if receiving.done():
                    protocol.receive(receiving.result(), time.monotonic())
                    receiving = asyncio.ensure_future(socket.recv())
                if waking.done():
                    self._wake.clear()
                    waking = asyncio.ensure_future(self._wake.wait())
                protocol.tick(time.monotonic())
        except ConnectionClosed as closed:
            retry = protocol.closed(closed.rcvd.code if closed.rcvd is not None else None)
            self._deliver(protocol)
            said = excerpt(closed.rcvd.reason) if closed.rcvd is not None else ""
            return _End(retry, f"{protocol.reason} {said}".strip())
        finally:
            for task in (receiving, waking, *asides):
                task.cancel()
            await asyncio.gather(receiving, waking, *asides, return_exceptions=True)

    async def _carry_out(
        self, protocol: EventProtocol, socket: ClientConnection, asides: set[asyncio.Task[None]]
    ) -> _End | None:
        """Do what the state machine wants; the end where it wants none of this connection any more."""
        self._deliver(protocol)
        for action in protocol.take_actions():
            if isinstance(action, SendText):
                try:
                    await within(self._open_timeout_s, socket.send(action.text))
                except asyncio.TimeoutError:
                    return _End(Retry.SOON, "the server takes nothing any more")
            elif isinstance(action, SendPing):
                asides.add(asyncio.ensure_future(self._ping(protocol, socket)))
            elif isinstance(action, Authorize):
                asides.add(asyncio.ensure_future(self._authorize(protocol, action)))
            elif isinstance(action, Close):
                return _End(protocol.closed(None), action.reason)
        return None

    async def _ping(self, protocol: EventProtocol, socket: ClientConnection) -> None:
        answered = await socket.ping()
        await answered
        protocol.pong(time.monotonic())

    async def _authorize(self, protocol: EventProtocol, asked: Authorize) -> None:
        """Ask the server; its answer goes to the state machine, which knows how long it waits."""
        assert isinstance(protocol, Pusher)
        try:
            if self._ask_leave is None:
                raise RvmError("nobody is there to ask the server for leave")
            leave = await self._ask_leave(asked.channel, asked.socket_id)
        except RvmError as error:
            protocol.not_authorized(asked.channel, asked.socket_id, excerpt(error), time.monotonic())
        else:
            now_s = time.monotonic()
            protocol.authorized(asked.channel, asked.socket_id, leave.auth, leave.channel_data, now_s)

    def _deliver(self, protocol: EventProtocol) -> None:
        for event in protocol.take_events():
            self._put(event)

    def _put(self, event: Event) -> None:
        """To the consumer. One that is behind loses events, and is told to catch up."""
        if isinstance(event, LineChanged):
            self.state, self.reason = event.state, event.reason
        elif isinstance(event, Malformed):
            self._log.warning("event dropped", reason=event.reason)
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped += 1
            self._overflowed = True


def _status(error: InvalidStatus) -> _End:
    """The HTTP answer that was no WebSocket: refused (4xx), busy, or a portal's page."""
    status = error.response.status_code
    reason = f"not connected: answered {status}"
    if 400 <= status < 500 and status not in PASSING_STATUS:
        return _End(Retry.SLOWLY, reason)
    given = error.response.headers.get_all("Retry-After")
    seconds = float(given[0]) if len(given) == 1 and given[0].isascii() and given[0].isdigit() else 0.0
    busy = status in PASSING_STATUS or status == 503
    return _End(Retry.BACK_OFF if busy else Retry.SOON, reason, min(seconds, LONGEST_RETRY_AFTER_S))
