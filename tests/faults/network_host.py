"""The event line while the network between machine and server changes, in network namespaces (`namespaces`).

One JSON line a change tells what became of the line.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

import aiohttp
import structlog
from aiohttp import web
from namespaces import HOST, LIMIT_S, SERVER_4, Change, Names, changes, play

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
TIMES = LineTimes(establish_s=5.0, quiet_s=0.5, pong_s=2.0)
HOLDS = "name gone while connected"  # the one change that costs no connection


async def serve(_folder: Path) -> None:
    """The server's side; its namespace is named by this process."""
    application = web.Application()
    application.add_routes(Reverb(API_KEY).routes())
    runner = web.AppRunner(application)
    await runner.setup()
    for host in ("0.0.0.0", "::"):
        await web.TCPSite(runner, host, PORT).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def close_all() -> None:
    """Have the server end every connection."""
    async with aiohttp.ClientSession() as session:
        for faults in ({"close_code": 4200}, {}):
            async with session.post(f"http://{SERVER_4}:{PORT}/reverb/faults", json=faults) as answer:
                answer.raise_for_status()


async def machine(_folder: Path, names: Names) -> None:
    """All changes, each with the line subscribed after it."""
    line = EventLine(
        lambda: Pusher(f"ws://{HOST}:{PORT}", "demo-app", ("rvm.m1",), TIMES),
        None,
        tls.context(),
        Reconnect(Backoff(0.1, 0.5), generator=random.Random(1)),
        structlog.get_logger(),
        open_timeout_s=3.0,
    )

    async def change(what: str, make: Change, listener: Listener) -> None:
        before = line.connections
        began = asyncio.get_running_loop().time()
        await make()
        if what != HOLDS:
            await listener.until(lambda: line.connections > before, LIMIT_S)
        await listener.until(lambda: line.state is LineState.SUBSCRIBED, LIMIT_S)
        took_s = asyncio.get_running_loop().time() - began
        print(json.dumps({"what": what, "connections": line.connections, "took_s": round(took_s, 2)}), flush=True)

    async with Listener(line) as listener:

        async def lost() -> None:
            await listener.until(lambda: line.state in (LineState.OFFLINE, LineState.CONNECTING), LIMIT_S)
            await listener.until(lambda: any(why in line.reason for why in ("nothing heard", "gaierror")), LIMIT_S)

        async def quiet() -> None:
            await asyncio.sleep(1.0)
            assert line.state is LineState.SUBSCRIBED

        for what, (make, _) in changes(names, close_all, lost, quiet).items():
            await change(what, make, listener)


if __name__ == "__main__":
    play(__file__, serve, machine)
