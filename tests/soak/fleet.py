"""A thousand machines on one reference server: `make fleet`, `make fleet ARGS="--machines 100 --minutes 1"`.

Each machine is the cloud bridge's own code (REST, WebSocket, back-off) with a buffer in memory, without a graph; all of
them share one process, the server has another. Customers come at a real machine's rate, in bursts. In the middle the
server is killed (-9) and started again. Then the machines' own ledger is held against the server's: exit status 1 where
a deposit is lost or doubled, or a machine is not back within two minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import secrets
import ssl
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
import structlog
import typer
from myrvm_cloud.bridge import Bridge, BridgeTimes, Fate, Line, Port, State
from myrvm_cloud.connection import ask_leave
from myrvm_cloud.event_line import EventLine, Leave
from myrvm_cloud.events import Event, LineChanged, LineState
from myrvm_cloud.http_line import HttpLimits, HttpLine
from myrvm_cloud.pusher import Pusher
from myrvm_cloud.reconnect import Reconnect
from myrvm_cloud.rest_client import MachineState, MyrvmClient
from myrvm_cloud.uplink import Uplink
from myrvm_core.backoff import Backoff
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage, TelemetryRecord
from myrvm_core.errors import StorageError
from myrvm_core.verdict import ModelInfo
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from uuid_utils import uuid7

from myrvm_cloud import contract

HEARTBEAT_S = 60.0
ITEM_EVERY_S = 20.0  # a busy machine's average
ITEMS_A_CUSTOMER = (1, 10)
ITEM_TO_ITEM_S = 3.0
BACK_WITHIN_S = 120.0
AWAY_S = 10.0
START_WITHIN_S = 30.0  # machines do not start in the same second, but they start together
SETTLE_S = 120.0
BACKOFF = Backoff(1.0, 60.0)
TLS = ssl.create_default_context()
MODEL = ModelInfo("rvm", "1.0.0", "0" * 64)


class Key:
    """One key for all; the server knows machines by their name."""

    def __init__(self, key: str) -> None:
        self._key = SecretStr(key)

    def current(self) -> SecretStr:
        """See `http_line.Key`."""
        return self._key

    def read_again(self) -> bool:
        """See `http_line.Key`."""
        return False


@dataclass
class Books:
    """What the machines themselves say: when each deposit was made and acknowledged, by key, in s of one clock."""

    made_s: dict[str, float] = field(default_factory=dict)
    acked_s: dict[str, float] = field(default_factory=dict)

    def waits_s(self, since_s: float, until_s: float) -> list[float]:
        """From made to acknowledged, of the deposits made in that time."""
        return [
            self.acked_s[key] - made_s for key, made_s in self.made_s.items()
            if since_s <= made_s < until_s and key in self.acked_s
        ]  # fmt: skip


class Machine:
    """One simulated machine: its bridge, a buffer in memory in the place of the real one, and its customers."""

    def __init__(self, number: int, url: str, key: Key, books: Books) -> None:
        self.line = Line()
        self._books, self._chance = books, random.Random(number)
        self._pending: list[DepositRecord] = []
        self._leased: dict[str, list[DepositRecord]] = {}
        client = MyrvmClient(url, f"fleet-{number:05}", "fleet")
        log = structlog.get_logger()

        def bridge(port: Port) -> Bridge:
            http = HttpLine(client.base_url, key, client.hardware_id, HttpLimits(backoff=BACKOFF), None, self._chance)
            times = BridgeTimes(HEARTBEAT_S, authorize_s=4.0, lease_s=60.0, backoff=BACKOFF)
            return Bridge(client, http, port, times, 50, self.line, log)

        def events(access: contract.WebSocketAccess) -> EventLine:
            reconnect = Reconnect(BACKOFF, generator=self._chance)
            return EventLine(
                lambda: Pusher(access.url, access.app_key, [access.channel]), self._leave, TLS, reconnect, log
            )

        self._url, self._key, self._name = url, key, client.hardware_id
        self.events = LineState.OFFLINE
        self.uplink = Uplink(bridge, events, self, None, 86_400.0, log)

    @property
    def online(self) -> bool:
        """The server has this machine, and it hears events."""
        return self.line.state is State.ONLINE and self.events is LineState.SUBSCRIBED

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.sleep(self._chance.uniform(0.0, START_WITHIN_S))
        await self.uplink.run()

    async def _leave(self, channel: str, socket_id: str) -> Leave:
        http = HttpLine(self._url, self._key, self._name, HttpLimits(backoff=BACKOFF))
        return await ask_leave(http, "/broadcasting/auth", channel, socket_id)

    async def serve_customers(self, until_s: float) -> None:
        """Customers come by chance, each with some items one after the other."""
        mean_items = sum(ITEMS_A_CUSTOMER) / 2
        while time.monotonic() < until_s:
            gap_s = self._chance.expovariate(1.0 / (mean_items * (ITEM_EVERY_S - ITEM_TO_ITEM_S)))
            await asyncio.sleep(min(gap_s, until_s - time.monotonic()))
            session = Session(SessionKind.ACCOUNT, str(uuid7()), "alice", time.time_ns())
            for _ in range(self._chance.randint(*ITEMS_A_CUSTOMER)):
                await asyncio.sleep(ITEM_TO_ITEM_S)
                if time.monotonic() >= until_s:
                    return
                self.take(session)

    def take(self, session: Session) -> None:
        """An item has fallen into the bin."""
        record = DepositRecord(
            str(uuid7()),
            "mineral",
            0.93,
            10,
            time.time_ns(),
            session,
            None,
            MODEL,
            Stage.TAKEN,
            clock_synchronised=True,
        )
        self._books.made_s[record.deposit_id] = time.monotonic()
        self._pending.append(record)
        self.uplink.bridge.buffer_changed(len(self._pending), 0)

    # uplink.Machine and its buffer

    @property
    def buffer(self) -> Machine:
        """See `uplink.Machine`."""
        return self

    def observe(self) -> MachineState:
        """See `uplink.Machine`."""
        return MachineState(model=contract.Model(**vars(MODEL)))

    def models_wanted(self, models: Sequence[contract.WantedModel]) -> None:
        """See `uplink.Machine`; nothing is wanted."""

    async def lease_telemetry(self) -> tuple[str, list[TelemetryRecord]]:
        """See `uplink.Machine`."""
        return "", []

    async def ack_telemetry(self, batch_id: str) -> None:
        """See `uplink.Machine`."""

    async def lease(self, limit: int, duration_s: float, once: bool) -> tuple[str, list[DepositRecord]]:
        """See `bridge.Deposits`."""
        taken, self._pending = self._pending[:limit], self._pending[limit:]
        lease_id = str(uuid7()) if taken else ""
        self._leased[lease_id] = taken
        return lease_id, taken

    async def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> int:
        """See `bridge.Deposits`."""
        now_s = time.monotonic()
        for deposit_id in deposit_ids:
            if self._books.acked_s.setdefault(deposit_id, now_s) != now_s:
                raise StorageError(f"{deposit_id} was acknowledged twice")
        self._leased.pop(lease_id, None)
        return len(deposit_ids)

    async def nack(self, lease_id: str, deposit_ids: Sequence[str], fate: Fate, reason: str) -> int:
        """See `bridge.Deposits`."""
        if fate is not Fate.AGAIN:
            raise StorageError(f"{deposit_ids} were refused: {reason}")
        again = [record for record in self._leased.pop(lease_id, []) if record.deposit_id in set(deposit_ids)]
        self._pending = again + self._pending
        return len(again)

    def line_changed(self, line: Line) -> None:
        """See `bridge.Port`."""
        self.line = line

    def heard(self, event: Event) -> None:
        """See `uplink.Machine`."""
        if isinstance(event, LineChanged):
            self.events = event.state


class Server:
    """The reference server as a process that is killed and started again on the same port and file."""

    def __init__(self, folder: Path) -> None:
        self.key = secrets.token_hex(16)
        self._folder, self._port = folder, 0
        self._process: asyncio.subprocess.Process

    async def start(self) -> str:
        """Its address, once it answers."""
        self._process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "myrvm_sim.reference_server",
            "--port", str(self._port), "--database", str(self._folder / "server.db"),
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "RVM_API_KEY": self.key},
        )  # fmt: skip
        assert self._process.stdout is not None
        url = (await asyncio.wait_for(self._process.stdout.readline(), 60.0)).decode().strip()
        self._port = int(url.rpartition(":")[2])
        return url

    async def kill(self) -> None:
        """As a machine room without power."""
        self._process.kill()
        await self._process.wait()

    def memory_mb(self) -> float:
        """Resident now."""
        return psutil.Process(self._process.pid).memory_info().rss / 1e6

    def cpu_s(self) -> float:
        """Used since its start."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system


def _credited(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/api/v1/ledger", timeout=60.0) as answer:
        return [row["idempotency_key"] for row in json.load(answer)["credits"]]


async def _until(condition: Callable[[], bool], limit_s: float) -> float:
    """How long it took, s; NaN where it did not come true."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > limit_s:
            return float("nan")
        await asyncio.sleep(0.1)
    return time.monotonic() - began_s


@dataclass
class Outcome:
    """What was found; `problems` are sentences."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def play(count: int, minutes: float, folder: Path) -> Outcome:
    """Run `count` machines for so long, the server's death in the middle."""
    found, books = Outcome(), Books()
    server = Server(folder)
    url = await server.start()
    own = psutil.Process()
    own_mb, server_mb = own.memory_info().rss / 1e6, server.memory_mb()
    key = Key(server.key)
    machines = [Machine(number, url, key, books) for number in range(count)]
    began_s = time.monotonic()
    end_s = began_s + 60.0 * minutes

    def online() -> bool:
        return all(machine.online for machine in machines)

    tasks = [asyncio.ensure_future(machine.run()) for machine in machines]
    customers = [asyncio.ensure_future(machine.serve_customers(end_s)) for machine in machines]
    try:
        started_s = await _until(online, START_WITHIN_S + BACK_WITHIN_S)
        up_s = time.monotonic()
        await asyncio.sleep(max(0.0, (began_s + end_s) / 2 - up_s))
        halfway_s, before_mb, before_server_mb = time.monotonic(), own.memory_info().rss / 1e6, server.memory_mb()
        cpu = server.cpu_s() / (halfway_s - began_s), _used_s(own) / (halfway_s - began_s)
        await server.kill()
        await asyncio.sleep(AWAY_S)
        noticed = sum(machine.events is not LineState.SUBSCRIBED for machine in machines)
        await server.start()
        back_s = await _until(online, BACK_WITHIN_S)
        again_s = time.monotonic()
        await asyncio.gather(*customers)
        settled_s = await _until(lambda: books.acked_s.keys() >= books.made_s.keys(), SETTLE_S)
        credited = await asyncio.to_thread(_credited, url)
    finally:
        for task in (*tasks, *customers):
            task.cancel()
        await asyncio.gather(*tasks, *customers, return_exceptions=True)
        await server.kill()
    times = Counter(credited)
    lost = books.made_s.keys() - times.keys()
    doubled = [one for one, number in times.items() if number > 1]
    unknown = times.keys() - books.made_s.keys()
    steady = books.waits_s(up_s, halfway_s - 5.0) + books.waits_s(again_s + 5.0, end_s)
    found.rows = [
        ("machines", f"{count}"),
        ("all online, events subscribed, after the start", f"{started_s:.1f} s (started within {START_WITHIN_S:g} s)"),
        ("deposits", f"{len(books.made_s)}, {len(books.made_s) / (60 * minutes):.1f} a second"),
        ("deposit to acknowledged, quiet, p50 / p95 / p99", _quantiles(steady)),
        ("server killed, away", f"{AWAY_S:g} s; noticed by {noticed} machines"),
        ("all online and subscribed after it was back", f"{back_s:.1f} s (limit {BACK_WITHIN_S:g} s)"),
        ("deposits made while it was away, p50 / p95 / p99", _quantiles(books.waits_s(halfway_s, again_s))),
        ("memory a machine, client side", f"{1000 * (before_mb - own_mb) / count:.0f} kB"),
        ("memory a machine, server side", f"{1000 * (before_server_mb - server_mb) / count:.0f} kB"),
        ("CPU of the server / of all machines", f"{100 * cpu[0]:.0f} % / {100 * cpu[1]:.0f} % of a core"),
        ("all acknowledged after the last customer", f"{settled_s:.1f} s"),
        ("lost / doubled / unknown", f"{len(lost)} / {len(doubled)} / {len(unknown)}"),
    ]
    if lost or doubled or unknown:
        found.problems.append(f"lost {sorted(lost)[:5]}, doubled {doubled[:5]}, unknown {sorted(unknown)[:5]}")
    if not all(map(_is_number, (started_s, back_s, settled_s))):
        found.problems.append("not all machines were online, or not all deposits acknowledged, in time")
    if not books.made_s:
        found.problems.append("no deposit was made: nothing is shown")
    return found


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _is_number(value: float) -> bool:
    return value == value


def _quantiles(waits_s: list[float]) -> str:
    if len(waits_s) < 2:
        return "-"
    cuts = statistics.quantiles(waits_s, n=100, method="inclusive")
    return f"{cuts[49]:.3f} / {cuts[94]:.3f} / {cuts[98]:.3f} s"


def main(
    machines: Annotated[int, typer.Option(min=1, help="How many.")] = 1000,
    minutes: Annotated[float, typer.Option(min=0.2, help="How long customers come.")] = 6.0,
) -> None:
    """Run, and print the table."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server inherits it
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="myrvm-fleet-") as folder:
        found = asyncio.run(play(machines, minutes, Path(folder)))
    table = Table(title=f"{machines} machines, {minutes:g} min, one reference server, {os.cpu_count()} cores")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for row in found.rows:
        table.add_row(*row)
    console.print(table)
    for problem in found.problems:
        console.print(problem, markup=False)
    if found.problems:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
