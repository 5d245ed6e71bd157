"""A proxy on the loopback that knows HTTP and breaks it by chance: delays, cuts, duplicates and reorders requests.

A stand-in for a bad network between a machine and its server, for campaigns. It runs in a thread with its own loop.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp import web

# What becomes of a request, and how often of 100. The rest passes.
FATES = {
    "delayed": 10,
    "cut before the server had it": 10,
    "cut after the server has answered": 15,
    "duplicated": 10,
    "late": 8,  # the client is cut off at once, the server has the request after later ones
}
LONGEST_DELAY_S = 0.3
LONGEST_LATE_S = 2.0
LIMIT_S = 10.0
DROPPED = {"host", "content-length", "connection", "transfer-encoding", "keep-alive"}


class HttpChaos:
    """Passes requests on to `target` (a URL without a path).

    Args:
        target: where the server is, alive or not.
        seed: of chance.
        duplicates: whether requests come twice; no client can keep a server without keys from crediting them twice.
    """

    def __init__(self, target: str, seed: int, duplicates: bool) -> None:
        self._target, self._chance = target, random.Random(seed)
        self._fates = {fate: share for fate, share in FATES.items() if duplicates or fate != "duplicated"}
        self.calm = False
        self.counts: Counter[str] = Counter()
        self._late: set[asyncio.Task[Any]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    @property
    def url(self) -> str:
        """What the client takes for the server."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def late(self) -> int:
        """Requests that the server has not had yet."""
        return len(self._late)

    def __enter__(self) -> HttpChaos:
        self._thread.start()
        assert self._ready.wait(LIMIT_S), "the proxy does not start"
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(LIMIT_S)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(application, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._port = runner.addresses[0][1]
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=LIMIT_S), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as self._session:
            self._ready.set()
            await self._stop.wait()
            await asyncio.gather(*self._late, return_exceptions=True)
            await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fate = self._draw()
        self.counts[fate] += 1
        if fate == "cut before the server had it":
            return _cut(request)
        if fate == "late":
            task = asyncio.ensure_future(self._later(request, body, self._chance.uniform(0.0, LONGEST_LATE_S)))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return _cut(request)
        if fate == "delayed":
            await asyncio.sleep(self._chance.uniform(0.0, LONGEST_DELAY_S))
        try:
            answers = await asyncio.gather(*[self._ask(request, body) for _ in range(1 + (fate == "duplicated"))])
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
            return _cut(request)
        if fate == "cut after the server has answered":
            return _cut(request)
        return self._chance.choice(answers)

    def _draw(self) -> str:
        fates = {} if self.calm else self._fates
        return self._chance.choices([*fates, "passed"], [*fates.values(), 100 - sum(fates.values())])[0]

    async def _later(self, request: web.Request, body: bytes, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        try:
            await self._ask(request, body)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
            self.counts["late, and the server was gone"] += 1

    async def _ask(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in DROPPED}
        url = self._target + request.path_qs
        async with self._session.request(request.method, url, data=body, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in DROPPED}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
