"""Bytes and requests that a machine costs its server: each thing counted at a proxy, then a day of a busy machine.

`python tests/bench/bench_traffic.py`. TCP payload of the cloud bridge's own code to the reference server, without TLS.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from myrvm_cloud.rest_client import MachineState
from rich.console import Console
from rich.table import Table

sys.path += [str(Path(__file__).parents[1] / "soak"), str(Path(__file__).parents[1])]
import fleet  # pyright: ignore[reportMissingImports]
from fault_proxy import FaultProxy

LIMIT_S = 20.0
DAY_S = 86_400.0
HEARTBEAT_S = 30.0  # as config/rvm.yaml has it
EVENT_PING_S = 25.0  # one side pings where nothing was said for so long
PING, PONG = '{"event":"pusher:ping","data":{}}', '{"event":"pusher:pong","data":{}}'  # and RFC 6455's frame: 6 and 2
ITEMS_A_DAY = 1000.0
ROUNDS = 20


@dataclass(frozen=True)
class Cost:
    """Of one thing: bytes to the server, bytes from it."""

    up: float
    down: float


async def _until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end_s:
            raise SystemExit(f"not within {LIMIT_S:g} s")
        await asyncio.sleep(0.01)


async def _cost(proxy: FaultProxy, rounds: int, once: Callable[[], Awaitable[None]]) -> Cost:
    up, down = proxy.sent_bytes, proxy.received_bytes
    for _ in range(rounds):
        await once()
    return Cost((proxy.sent_bytes - up) / rounds, (proxy.received_bytes - down) / rounds)


async def measure(folder: Path) -> dict[str, Cost]:
    """Each thing's cost."""
    server = fleet.Server(folder)
    url = await server.start()
    found: dict[str, Cost] = {}
    fleet.START_WITHIN_S = 0.0
    async with FaultProxy("127.0.0.1", int(url.rpartition(":")[2])) as proxy:
        books = fleet.Books()
        machine = fleet.Machine(1, f"http://127.0.0.1:{proxy.port}", fleet.Key(server.key), books)
        running = asyncio.ensure_future(machine.run())
        session = fleet.Session(fleet.SessionKind.ACCOUNT, str(fleet.uuid7()), "alice", 0)

        async def connect() -> None:
            await _until(lambda: machine.online)
            await asyncio.sleep(1.0)  # the heartbeat that the subscription asks for has been answered

        async def beat() -> None:
            bridge = machine.uplink.bridge
            await bridge.ask(bridge.client.heartbeat(MachineState(), []))

        async def deposit(count: int) -> None:
            for _ in range(count):
                machine.take(session)
            await _until(lambda: len(books.acked_s) == len(books.made_s))

        try:
            found["start: handshake, heartbeat, WebSocket, subscription"] = await _cost(proxy, 1, connect)
            found["heartbeat"] = await _cost(proxy, ROUNDS, beat)
            found["deposit by itself"] = await _cost(proxy, ROUNDS, lambda: deposit(1))
            batch = await _cost(proxy, ROUNDS, lambda: deposit(50))
            found["deposit in a batch of 50 (gzip)"] = Cost(batch.up / 50, batch.down / 50)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await server.kill()
    found["WebSocket ping and answer (computed)"] = Cost(len(PING) + 6.0, len(PONG) + 2.0)
    return found


def main() -> None:
    """Print the tables."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="myrvm-traffic-") as folder:
        found = asyncio.run(measure(Path(folder)))
    table = Table(title="bytes of one machine, TCP payload without TLS")
    for heading in ("what", "to the server", "from it"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for what, cost in found.items():
        table.add_row(what, f"{cost.up:.0f}", f"{cost.down:.0f}")
    console.print(table)
    beats, pings = DAY_S / HEARTBEAT_S, DAY_S / EVENT_PING_S
    parts = {"heartbeat": beats, "WebSocket ping and answer (computed)": pings, "deposit by itself": ITEMS_A_DAY}
    total_mb = sum((found[name].up + found[name].down) * times for name, times in parts.items()) / 1e6
    console.print(
        f"a day of {ITEMS_A_DAY:.0f} items: {beats + ITEMS_A_DAY:.0f} requests, {pings:.0f} pings, {total_mb:.1f} MB"
    )


if __name__ == "__main__":
    main()
