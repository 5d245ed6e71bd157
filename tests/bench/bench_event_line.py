"""From a command sent by the server to the consumer it is for, with 50 ms added each way; and bare `websockets` beside.

python tests/bench/bench_event_line.py [--rounds 300] [--delay-ms 50]. Server, proxy and lines share one process and its
loop. Rows: bare `websockets` reading frames, the raw JSON line, the Reverb line on a private channel, in turns within
one run. Goal: p95 of the lines under 100 ms, of which the added delay is 50.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).parents[1]))

from event_server import API_KEY, PRIVATE, EventServer, Listener
from fault_proxy import FaultProxy
from myrvm_cloud.event_line import EventLine
from myrvm_cloud.events import CommandDocument, LineState
from myrvm_cloud.pusher import Pusher
from myrvm_cloud.raw_events import RawEvents
from myrvm_cloud.reconnect import Reconnect

from myrvm_cloud import tls

GOAL_MS = 100.0
PAUSE_S = 0.01

Send = Callable[[str], Awaitable[Any]]
Heard = Callable[[str], Awaitable[float]]


@asynccontextmanager
async def bare(server: EventServer, port: int) -> AsyncIterator[tuple[Send, Heard]]:
    async with connect(f"ws://127.0.0.1:{port}/ws/bare?token={API_KEY}", compression=None) as socket:

        async def heard(document: str) -> float:
            while document not in str(await socket.recv()):
                pass
            return time.perf_counter()

        yield lambda document: server.raw.send("bare", "command", document), heard


class Clocked(Listener):
    """Notes when each command reached the consumer."""

    def __init__(self, line: EventLine) -> None:
        super().__init__(line)
        self._waiting: dict[str, asyncio.Future[float]] = {}

    async def _read(self) -> None:
        async for event in self.line:
            self.events = [event]
            if isinstance(event, CommandDocument) and event.document in self._waiting:
                self._waiting.pop(event.document).set_result(time.perf_counter())

    async def reached(self, document: str) -> float:
        future = self._waiting.setdefault(document, asyncio.get_running_loop().create_future())
        return await future


@asynccontextmanager
async def ours(line: EventLine, send: Send) -> AsyncIterator[tuple[Send, Heard]]:
    listener = Clocked(line)
    async with listener:
        await listener.state(LineState.SUBSCRIBED)
        yield send, listener.reached


async def measure(rounds: int, delay_s: float) -> dict[str, np.ndarray]:
    def line(make: Callable[[], Any], server: EventServer) -> EventLine:
        return EventLine(make, server.ask_leave, tls.context(), Reconnect(), structlog.get_logger())

    times: dict[str, list[float]] = {"bare websockets": [], "raw JSON": [], "Reverb, private channel": []}
    async with EventServer() as server, FaultProxy("127.0.0.1", server.port, delay_s) as proxy:
        url = f"ws://127.0.0.1:{proxy.port}"
        raw = line(lambda: RawEvents(f"{url}/ws/m1", API_KEY), server)
        reverb = line(lambda: Pusher(url, "demo-app", (PRIVATE,)), server)
        async with (
            bare(server, proxy.port) as one,
            ours(raw, lambda document: server.raw.send("m1", "command", document)) as two,
            ours(reverb, lambda document: server.reverb.publish(PRIVATE, "command", {"document": document})) as three,
        ):
            for number in range(rounds):
                for name, (send, heard) in zip(times, (one, two, three), strict=True):
                    document = f"{'x' * 500}.{number}"
                    waiting = asyncio.ensure_future(heard(document))
                    await asyncio.sleep(PAUSE_S)
                    began = time.perf_counter()
                    await send(document)
                    times[name].append(await waiting - began)
    return {name: np.array(values) * 1000 for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--delay-ms", type=float, default=50.0)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    times = asyncio.run(measure(arguments.rounds, arguments.delay_ms / 1000))
    table = Table(title=f"Command sent to consumer reached, {arguments.delay_ms:g} ms added each way")
    for column in ("line", "p50 ms", "p95 ms", "p99 ms", "p95 less the added delay"):
        table.add_column(column, justify="right" if column != "line" else "left")
    worst = 0.0
    for name, values in times.items():
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        table.add_row(name, f"{p50:.1f}", f"{p95:.1f}", f"{p99:.1f}", f"{p95 - arguments.delay_ms:.1f}")
        worst = max(worst, 0.0 if name.startswith("bare") else float(p95))
    Console().print(table)
    print(f"goal: p95 under {GOAL_MS:g} ms: {'reached' if worst < GOAL_MS else 'missed'} ({worst:.1f} ms)")


if __name__ == "__main__":
    main()
