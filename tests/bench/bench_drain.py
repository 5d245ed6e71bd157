"""A backlog drained by the real bridge, against a bare aiohttp client that posts the same batches to the same server.

python tests/bench/bench_drain.py [--deposits 100000] [--batch N]. The buffer is filled with so many deposits of so
many sessions, then `bridge.Bridge` sends them over loopback to a process of the reference server, with the buffer in a
worker thread as in its node, without ROS. Before and after it the bare client posts half as many each, bodies made
beforehand. Meanwhile fresh deposits come in five times a second. Goals: at least 0.5 of the bare client's rate, p95 of
a fresh deposit from "taken" on disk to acked under 2 s, memory flat.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import structlog
import uuid_utils
from myrvm_cloud.bridge import Fate, Line
from myrvm_cloud.buffer import DepositBuffer
from myrvm_cloud.connection import Connection
from myrvm_cloud.contract import API_KEY_HEADER, BASE_PATH, MACHINE_HEADER
from myrvm_cloud.rest_client import MyrvmClient
from myrvm_cloud.settings import CloudBridgeSettings
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage
from myrvm_core.verdict import ModelInfo
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parents[1]))

from plain_line import TestKey
from server_process import API_KEY, ServerProcess

SESSION_ITEMS = 10
FRESH_S = 0.2
MACHINE = "bench"
RATIO_GOAL, FRESH_GOAL_S = 0.5, 2.0


def records(count: int) -> list[DepositRecord]:
    """Deposits of sessions of ten."""
    made: list[DepositRecord] = []
    session = Session()
    for number in range(count):
        if number % SESSION_ITEMS == 0:
            session = Session(SessionKind.ACCOUNT, str(uuid_utils.uuid7()), "alice", 1)
        deposit_id, model = str(uuid_utils.uuid7()), ModelInfo("net", "1", "f" * 64)
        record = DepositRecord(deposit_id, "mineral", 0.875, 5, time.time_ns(), session, 0.02, model)
        made.append(replace(record, clock_synchronised=True))
    return made


def keep(buffer: DepositBuffer, record: DepositRecord) -> None:
    """As a deposit goes through the machine."""
    buffer.enqueue(record, time.time_ns())
    buffer.update(record.deposit_id, Stage.TAKEN, True, time.time_ns())


@contextmanager
def one_transaction(buffer: DepositBuffer) -> Any:
    """Fill quickly."""
    transaction = buffer._transaction
    buffer._connection.execute("BEGIN IMMEDIATE")
    buffer._transaction = lambda: _nothing()  # type: ignore[method-assign]
    yield
    buffer._transaction = transaction  # type: ignore[method-assign]
    buffer._connection.execute("COMMIT")
    buffer.checkpoint()


@contextmanager
def _nothing() -> Any:
    yield


class WorkerPort:
    """`bridge.Port` over the buffer in one worker thread."""

    def __init__(self, buffer: DepositBuffer) -> None:
        self._file, self.worker = buffer, ThreadPoolExecutor(1)
        self.acked_s: dict[str, float] = {}
        self.fresh: set[str] = set()

    @property
    def buffer(self) -> WorkerPort:
        """See `Port`."""
        return self

    async def work(self, function: Any, *arguments: Any) -> Any:
        """Run in the worker."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, function, *arguments)

    async def lease(self, limit: int, duration_s: float, once: bool) -> tuple[str, list[DepositRecord]]:
        """See `Deposits`."""
        return await self.work(self._file.lease, limit, int(duration_s * 1e9), time.time_ns(), once)

    async def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> int:
        """See `Deposits`."""
        acked = await self.work(self._file.ack, deposit_ids, time.time_ns())
        self.acked_s |= dict.fromkeys(self.fresh.intersection(deposit_ids), time.monotonic())
        return acked

    async def nack(self, lease_id: str, deposit_ids: Sequence[str], fate: Fate, reason: str) -> int:
        """See `Deposits`."""
        raise AssertionError(f"{len(deposit_ids)} deposits are not credited: {reason}")

    def line_changed(self, line: Line) -> None:
        """See `Port`."""

    def welcomed(self, answer: Any) -> None:
        """See `Port`."""

    def command(self, envelope: str) -> None:
        """See `Port`."""


async def bare(url: str, bodies: Sequence[bytes]) -> float:
    """Post them; returns the seconds that it took."""
    headers = {API_KEY_HEADER: API_KEY, MACHINE_HEADER: MACHINE, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        began_s = time.monotonic()
        for body in bodies:
            async with session.post(f"{url}{BASE_PATH}/edge/deposits", data=body) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
        return time.monotonic() - began_s


async def drain(url: str, buffer: DepositBuffer, batch: int) -> tuple[float, list[float]]:
    """Seconds that the bridge took, and those of each fresh deposit."""
    settings = CloudBridgeSettings(server_url=url, batch_size=batch)
    port = WorkerPort(buffer)
    bridge = Connection(settings, TestKey(API_KEY), MACHINE, "1", "").bridge(port, Line(), structlog.get_logger())
    began: dict[str, float] = {}

    async def bring() -> None:
        while True:
            (record,) = records(1)
            port.fresh.add(record.deposit_id)
            await port.work(keep, buffer, record)
            began[record.deposit_id] = time.monotonic()
            bridge.buffer_changed(1, 0)
            await asyncio.sleep(FRESH_S)

    began_s = time.monotonic()
    tasks = [asyncio.ensure_future(task) for task in (bridge.run(), bring())]

    async def unsent() -> int:
        status = await port.work(buffer.status, time.time_ns())
        return status.pending + status.leased

    while await unsent() > 5:
        for task in tasks:
            if task.done():
                await task
        await asyncio.sleep(0.1)
    taken_s = time.monotonic() - began_s
    tasks[1].cancel()
    while await unsent():
        await asyncio.sleep(0.01)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    port.worker.shutdown()
    return taken_s, [port.acked_s[deposit_id] - at_s for deposit_id, at_s in began.items()]


def resident_mb() -> float:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="A backlog drained, against a bare client")
    parser.add_argument("--deposits", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=CloudBridgeSettings().batch_size)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    home = Path(os.environ.get("MYRVM_DATA") or Path(__file__).resolve().parents[2] / "var")
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as name:
        folder = Path(name)
        words = MyrvmClient("http://localhost", MACHINE, "1")
        others = iter(records(arguments.deposits))
        bodies: list[bytes] = []
        while together := list(itertools.islice(others, arguments.batch)):
            bodies.append(words.deposits(together).body)
        buffer = DepositBuffer(folder / "deposits.db", 1000, 30.0, 0)
        with one_transaction(buffer):
            for record in records(arguments.deposits):
                keep(buffer, record)
        server = ServerProcess(folder)
        try:
            url = server.start()
            half = len(bodies) // 2
            gc.freeze()  # as a node does
            first_s = asyncio.run(bare(url, bodies[:half]))
            before_mb = resident_mb()
            drained_s, fresh_s = asyncio.run(drain(url, buffer, arguments.batch))
            after_mb = resident_mb()
            second_s = asyncio.run(bare(url, bodies[half:]))
            status = buffer.status(0)
            assert status.acked == arguments.deposits + len(fresh_s), status
        finally:
            server.close()
            buffer.close()
    bare_rate = arguments.deposits / (first_s + second_s)
    rate = (arguments.deposits + len(fresh_s)) / drained_s
    table = Table(title=f"{arguments.deposits} deposits, {arguments.batch} in a request")
    for heading in ("", "deposits/s", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("bare aiohttp client", f"{bare_rate:.0f}", "1.00")
    table.add_row("bridge and buffer", f"{rate:.0f}", f"{rate / bare_rate:.2f}")
    console = Console()
    console.print(table)
    p50, p95 = np.percentile(fresh_s, [50, 95])
    met = "met" if rate / bare_rate >= RATIO_GOAL else "missed"
    console.print(f"ratio {rate / bare_rate:.2f}, goal {RATIO_GOAL}: {met}")
    met = "met" if p95 < FRESH_GOAL_S else "missed"
    console.print(f"{len(fresh_s)} fresh ones meanwhile: p50 {p50:.3f} s, p95 {p95:.3f} s, goal {FRESH_GOAL_S}: {met}")
    console.print(f"memory {before_mb:.0f} MB before, {after_mb:.0f} MB after")


if __name__ == "__main__":
    main()
