"""A machine and a server in network namespaces of their own, joined by a cable: the network changes under a line.

`unshare --net --mount python network_host.py` is the machine; it starts itself with `server` in a second namespace. One
JSON line a change tells what became of the line. Names are resolved by an /etc/hosts of its own. Needs root.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import structlog
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[1]))

from event_server import API_KEY, Listener
from myrvm_cloud.event_line import EventLine
from myrvm_cloud.event_protocol import LineTimes
from myrvm_cloud.events import LineState
from myrvm_cloud.pusher import Pusher
from myrvm_cloud.reconnect import Reconnect
from myrvm_core.backoff import Backoff
from myrvm_sim.reverb import Reverb

from myrvm_cloud import tls

PORT = 9000
MACHINE_4, MOVED_4, SERVER_4 = "10.9.0.1", "10.9.0.77", "10.9.0.2"
MACHINE_6, SERVER_6, NOBODY_6 = "fd00:9::1", "fd00:9::2", "fd00:9::dead"
TIMES = LineTimes(establish_s=5.0, quiet_s=0.5, pong_s=2.0)
LIMIT_S = 40.0


def sh(*command: str) -> None:
    subprocess.run(command, check=True, timeout=20)


async def serve() -> None:
    """The server's side; its namespace is named by this process."""
    application = web.Application()
    application.add_routes(Reverb(API_KEY).routes())
    runner = web.AppRunner(application)
    await runner.setup()
    for host in ("0.0.0.0", "::"):
        await web.TCPSite(runner, host, PORT).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


def cable(server: int) -> None:
    """Lay a cable to the namespace of the process `server`."""
    there = ("nsenter", "--net", f"--target={server}")
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "add", "machine", "type", "veth", "peer", "name", "server")
    sh("ip", "link", "set", "server", "netns", str(server))
    sh(*there, "ip", "addr", "add", f"{SERVER_4}/24", "dev", "server")
    sh(*there, "ip", "addr", "add", f"{SERVER_6}/64", "dev", "server", "nodad")
    sh(*there, "ip", "link", "set", "server", "up")
    plug_in()


def plug_in(address: str = MACHINE_4) -> None:
    sh("ip", "addr", "flush", "dev", "machine")
    sh("ip", "link", "set", "machine", "up")
    sh("ip", "addr", "add", f"{address}/24", "dev", "machine")
    sh("ip", "addr", "add", f"{MACHINE_6}/64", "dev", "machine", "nodad")


async def close_all() -> None:
    """Have the server end every connection; over IPv6 where there is no IPv4."""
    async with aiohttp.ClientSession() as session:
        for faults in ({"close_code": 4200}, {}):
            async with session.post(f"http://{SERVER_4}:{PORT}/reverb/faults", json=faults) as answer:
                answer.raise_for_status()


async def machine(hosts: Path) -> None:
    reconnect = Reconnect(Backoff(0.1, 0.5), generator=random.Random(1))
    line = EventLine(
        lambda: Pusher(f"ws://server.test:{PORT}", "demo-app", ("rvm.m1",), TIMES),
        None,
        tls.context(),
        reconnect,
        structlog.get_logger(),
        open_timeout_s=3.0,
    )

    def name(*addresses: str) -> None:
        hosts.write_text("".join(f"{address} server.test\n" for address in addresses))

    async def lost(listener: Listener, why: str) -> None:
        await listener.until(lambda: line.state in (LineState.OFFLINE, LineState.CONNECTING), LIMIT_S)
        await listener.until(lambda: why in line.reason, LIMIT_S)

    async def change(what: str, make: Callable[[], Awaitable[None] | None], listener: Listener) -> None:
        """Change the network, and see the line subscribed after it."""
        before = line.connections
        began = asyncio.get_running_loop().time()
        made = make()
        if made is not None:
            await made
        if what != "name gone while connected":
            await listener.until(lambda: line.connections > before, LIMIT_S)
        await listener.until(lambda: line.state is LineState.SUBSCRIBED, LIMIT_S)
        took_s = asyncio.get_running_loop().time() - began
        print(json.dumps({"what": what, "connections": line.connections, "took_s": round(took_s, 2)}), flush=True)

    async with Listener(line) as listener:

        async def down_and_up() -> None:
            sh("ip", "link", "set", "machine", "down")
            await lost(listener, "nothing heard")
            plug_in()

        async def nobody_knows() -> None:
            name()
            await asyncio.sleep(1.0)
            assert line.state is LineState.SUBSCRIBED

        async def gone() -> None:
            await close_all()
            await lost(listener, "gaierror")
            name(SERVER_4)

        async def six_only() -> None:
            name(SERVER_6)
            sh("ip", "-4", "addr", "flush", "dev", "machine")

        async def dead_six() -> None:
            plug_in()
            name(NOBODY_6, SERVER_4)
            await close_all()

        await change("first", lambda: name(SERVER_4), listener)
        await change("interface down and up", down_and_up, listener)
        await change("new address", lambda: plug_in(MOVED_4), listener)
        await change("name gone while connected", nobody_knows, listener)
        await change("name gone, then known again", gone, listener)
        await change("IPv6 only", six_only, listener)
        await change("a dead IPv6 address beside IPv4", dead_six, listener)


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if sys.argv[1:] == ["server"]:
        asyncio.run(serve())
        return
    with tempfile.TemporaryDirectory() as folder:
        hosts, resolver = Path(folder) / "hosts", Path(folder) / "resolv.conf"
        hosts.touch()
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")  # where nobody answers
        sh("mount", "--make-rprivate", "/")
        sh("mount", "--bind", str(hosts), "/etc/hosts")
        sh("mount", "--bind", str(resolver), "/etc/resolv.conf")
        command = ["unshare", "--net", sys.executable, __file__, "server"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            cable(server.pid)
            asyncio.run(machine(hosts))
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
