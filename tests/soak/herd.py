"""Many event lines lose their server at one moment, with real sockets: tries a second, and when all are back.

python tests/soak/herd.py [--machines 200] [--down-s 20] [--protocol reverb|raw]. Server and lines share one process.
What a thousand do is simulated in virtual time by tests/unit/test_reconnect.py; this shows that the real line does so.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from event_server import API_KEY, EventServer
from myrvm_cloud.event_line import EventLine
from myrvm_cloud.event_protocol import EventProtocol
from myrvm_cloud.events import LineChanged, LineState
from myrvm_cloud.pusher import Pusher
from myrvm_cloud.raw_events import RawEvents
from myrvm_cloud.reconnect import Reconnect

from myrvm_cloud import tls

SETTLE_LIMIT_S = 120.0


async def until_all(lines: list[EventLine], state: LineState) -> float:
    """Wait until every line is in this state; returns how long it took, s."""
    began = time.monotonic()
    while any(line.state is not state for line in lines):
        if time.monotonic() > began + SETTLE_LIMIT_S:
            left = Counter(line.state.value for line in lines)
            raise SystemExit(f"after {SETTLE_LIMIT_S:g} s not all lines are {state.value}: {dict(left)}")
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def follow(line: EventLine, tries: list[float]) -> None:
    """Note when the line tries to connect."""
    async for event in line:
        if isinstance(event, LineChanged) and event.state is LineState.CONNECTING:
            tries.append(time.monotonic())


async def campaign(machines: int, down_s: float, protocol: str) -> bool:
    context = tls.context()
    process = psutil.Process()
    before = process.memory_info().rss
    async with EventServer() as server:

        def line(number: int) -> EventLine:
            def make() -> EventProtocol:
                if protocol == "raw":
                    return RawEvents(f"{server.ws_url}/ws/m{number}", API_KEY)
                return Pusher(server.ws_url, "demo-app", (f"rvm.m{number}",))

            return EventLine(make, None, context, Reconnect(), structlog.get_logger())

        tries: list[float] = []
        lines = [line(number) for number in range(machines)]
        tasks = [asyncio.ensure_future(one.run()) for one in lines]
        tasks += [asyncio.ensure_future(follow(one, tries)) for one in lines]
        first_s = await until_all(lines, LineState.SUBSCRIBED)
        used = (process.memory_info().rss - before) / machines
        tries.clear()
        await server.stop()
        lost = time.monotonic()
        await asyncio.sleep(down_s)
        await server.start()
        back_s = await until_all(lines, LineState.SUBSCRIBED)
        seconds = Counter(int(moment - lost) for moment in tries)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    later = max((count for second, count in seconds.items() if second >= 8), default=0)
    bound = 2.0 * machines + 5 * machines**0.5
    busiest = max(seconds.values())
    print(f"{machines} lines ({protocol}), {used / 1024:.0f} KiB each with the server's side; up in {first_s:.1f} s")
    print(f"server gone for {down_s:g} s; tries in seconds 0 to 7: {[seconds[second] for second in range(8)]}")
    print(f"busiest second {busiest} (bound {bound:.0f}), from the ninth on {later}; all back after {back_s:.1f} s")
    return busiest <= bound and back_s <= 61.0 + 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--down-s", type=float, default=20.0)
    parser.add_argument("--protocol", choices=("reverb", "raw"), default="reverb")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    good = asyncio.run(campaign(arguments.machines, arguments.down_s, arguments.protocol))
    raise SystemExit(0 if good else "the stated bound does not hold")


if __name__ == "__main__":
    main()
