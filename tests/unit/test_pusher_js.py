"""Unmodified pusher-js (npm, pinned by tests/npm) against the reference server's Reverb side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from event_server import API_KEY, LIMIT_S, MACHINE, PRESENCE, PRIVATE, PUBLIC, EventServer
from npm_packages import SOURCE, install, node


@pytest.fixture(scope="module")
def client_file() -> Path:
    """The client beside an installed pusher-js."""
    folder = install()
    (folder / "pusher_client.js").write_bytes((SOURCE / "pusher_client.js").read_bytes())
    return folder / "pusher_client.js"


class PusherJs:
    """A running client."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []

    async def order(self, *words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        await self.process.stdin.drain()

    async def until(self, true: Callable[[str, Any], bool]) -> Any:
        """The next thing that it says of this kind."""
        return await asyncio.wait_for(self._next(true), LIMIT_S)

    async def _next(self, true: Callable[[str, Any], bool]) -> Any:
        assert self.process.stdout is not None
        while True:
            line = await self.process.stdout.readline()
            assert line, self.said
            said = json.loads(line)
            self.said.append(said)
            if true(said["what"], said.get("data")):
                return said.get("data")

    async def event(self, name: str) -> Any:
        return (await self.until(lambda what, data: what == "event" and data["event"] == name)).get("data")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[EventServer]:
    async with EventServer(ping_interval_s=2.0) as made:
        yield made


@pytest_asyncio.fixture
async def start(client_file: Path, server: EventServer) -> AsyncIterator[Callable[..., Any]]:
    running: list[PusherJs] = []

    async def begin(key: str = "demo-app", activity_ms: int = 20_000) -> PusherJs:
        process = await asyncio.create_subprocess_exec(
            str(node()), str(client_file), "127.0.0.1", str(server.port), key, API_KEY, MACHINE, str(activity_ms),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        running.append(PusherJs(process))
        return running[-1]

    yield begin
    for client in running:
        if client.process.returncode is None:
            client.process.kill()
        await client.process.wait()


async def connected(start: Callable[..., Any], **options: Any) -> PusherJs:
    client = await start(**options)
    await client.until(lambda what, data: (what, data) == ("state", "connected"))
    return client


async def test_it_connects_subscribes_and_hears(start: Callable[..., Any], server: EventServer) -> None:
    client = await connected(start)
    for channel in (PUBLIC, PRIVATE, PRESENCE):
        await client.order("subscribe", channel)
        await client.event("pusher:subscription_succeeded")
        said = {"session_id": "s1", "user": {"id": 7, "name": "Alice"}}
        for in_string in (True, False):
            assert await server.reverb.publish(channel, "session.authorized", said, in_string) == 1
            assert await client.event("session.authorized") == said
    await client.order("members", PRESENCE)
    assert await client.until(lambda what, _: what == "members") == 1
    await client.order("unsubscribe", PUBLIC)
    await client.order("disconnect")
    await client.until(lambda what, data: (what, data) == ("state", "disconnected"))


async def test_two_of_them_whisper_and_see_each_other(start: Callable[..., Any], server: EventServer) -> None:
    one, two = await connected(start), await connected(start)
    for client in (one, two):
        await client.order("subscribe", PRESENCE)
        await client.event("pusher:subscription_succeeded")
    await one.order("trigger", PRESENCE, "client-hello", {"a": 1})
    assert await two.event("client-hello") == {"a": 1}
    await one.order("trigger", PRESENCE, "client-large", "x" * 11_000)
    for _ in range(12):
        await two.order("trigger", PRESENCE, "client-fast", {})
    error = await two.until(lambda what, data: what == "error")
    assert error["code"] == 4301


@pytest.mark.parametrize(("activity_ms", "frame"), [(1000, "pusher:pong"), (20_000, "pusher:ping")])
async def test_it_stays_by_pings(start: Callable[..., Any], server: EventServer, activity_ms: int, frame: str) -> None:
    """It asks after `activity_ms` of silence; the server asks after 2 s, and sends away who does not answer."""
    client = await connected(start, activity_ms=activity_ms)
    for _ in range(2):
        await client.until(lambda what, data: (what, data) == ("message", frame))
    assert server.reverb.accepted == 1


async def test_it_obeys_the_servers_close_codes(start: Callable[..., Any], server: EventServer) -> None:
    client = await connected(start)
    await client.order("subscribe", PRIVATE)
    await client.event("pusher:subscription_succeeded")
    await server.reverb.close_all(4200)
    await client.event("pusher:subscription_succeeded")
    await server.reverb.close_all(4100)
    await client.event("pusher:subscription_succeeded")
    assert server.reverb.accepted == 3
    await server.reverb.close_all(4001)
    await client.until(lambda what, data: (what, data) == ("state", "disconnected"))


async def test_it_is_refused_what_is_not_its_own(start: Callable[..., Any], server: EventServer) -> None:
    client = await connected(start)
    await client.order("subscribe", "private-rvm.m2")
    assert (await client.event("pusher:subscription_error"))["status"] == 403
    stranger = await start("other-app")
    assert (await stranger.until(lambda what, _: what == "error"))["code"] == 4001
