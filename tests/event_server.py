"""The WebSocket sides of the reference server, alone on a free port of the loopback, for tests and benches."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web
from myrvm_cloud.event_line import EventLine, Leave
from myrvm_cloud.events import CatchUp, Event, LineChanged, LineState
from myrvm_core.errors import ServerError
from myrvm_sim.raw_socket import RawSocket
from myrvm_sim.reverb import Reverb

API_KEY = "key-that-must-not-be-logged"
MACHINE = "m1"
PUBLIC, PRIVATE, PRESENCE = f"rvm.{MACHINE}", f"private-rvm.{MACHINE}", f"presence-rvm.{MACHINE}"
LIMIT_S = 30.0


class EventServer:
    """An asynchronous context manager; `url` is http://, `ws_url` ws://."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", **options: Any) -> None:
        self.reverb = Reverb(API_KEY, **options)
        self.raw = RawSocket(API_KEY)
        self.port = 0
        self._tls, self._host = tls, host
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> EventServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def ws_url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'wss' if self._tls else 'ws'}://{host}:{self.port}"

    @property
    def url(self) -> str:
        return self.ws_url.replace("ws", "http", 1)

    async def start(self) -> None:
        """Start, or start again on the same port."""
        application = web.Application()
        application.add_routes([*self.reverb.routes(), *self.raw.routes()])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._runner is not None:
            await self.reverb.close_all(1001)
            await self.raw.close_all(1001)
            await self._runner.cleanup()
            self._runner = None

    async def ask_leave(self, channel: str, socket_id: str) -> Leave:
        """What the bridge does over REST."""
        headers = {"X-RVM-API-KEY": API_KEY, "X-Machine-UUID": MACHINE}
        form = {"channel_name": channel, "socket_id": socket_id}
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{self.url}/broadcasting/auth", data=form, headers=headers) as answer,
            ):
                if answer.status != 200:
                    raise ServerError(f"/broadcasting/auth answered {answer.status}")
                said = await answer.json()
        except aiohttp.ClientError as error:
            raise ServerError(f"/broadcasting/auth: {type(error).__name__}") from error
        return Leave(said["auth"], said.get("channel_data"))


class Listener:
    """Runs a line and keeps all that it says."""

    def __init__(self, line: EventLine) -> None:
        self.line = line
        self.events: list[Event] = []
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Listener:
        self._tasks = [asyncio.ensure_future(self.line.run()), asyncio.ensure_future(self._read())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert [type(one) for one in done] == [asyncio.CancelledError] * 2, done

    async def _read(self) -> None:
        async for event in self.line:
            self.events.append(event)
            self._changed.set()

    async def until(self, true: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
        """Wait for a condition."""
        end = asyncio.get_running_loop().time() + limit_s
        while not true():
            left = end - asyncio.get_running_loop().time()
            assert left > 0, f"not within {limit_s} s: {self.events}"
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), min(left, 0.05))
            except asyncio.TimeoutError:
                continue

    async def heard(self, event: Event) -> None:
        await self.until(lambda: event in self.events)

    async def state(self, *states: LineState) -> None:
        """Wait until the line is in one of these states."""
        await self.until(lambda: bool(self.events) and self.line.state in states)

    async def caught_up(self, times: int) -> None:
        """Wait until the line has been subscribed so often."""
        await self.until(lambda: sum(isinstance(event, CatchUp) for event in self.events) >= times)

    @property
    def states(self) -> list[LineState]:
        return [event.state for event in self.events if isinstance(event, LineChanged)]
