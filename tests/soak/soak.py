"""Deposits for an hour with every core saturated by busy processes: `make soak`, `make soak ARGS="--minutes 10"`.

No node may be replaced (each is alive, however late), the books must agree, and memory, open files and threads of no
node may grow: a table shows them after the warm-up and at the end. Exit status 1 where one of these does not hold.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import psutil
import typer
from kills import NODES, SERVING, Kills, machine
from myrvm_core.errors import RvmError
from myrvm_interfaces.msg import DepositResult
from myrvm_sim.customer import READY_STATES
from myrvm_sim.items import Kind
from rich.console import Console
from rich.table import Table

WARM_UP = 0.2  # share of the time after which the first figures are taken
GROWTH, GROWTH_MB, GROWTH_FILES, GROWTH_THREADS = 0.15, 10.0, 4, 2  # more than this is a leak
SAMPLE_S = 10.0
KINDS = (Kind.MINERAL, Kind.MINERAL, Kind.MINERAL, Kind.NOT_EMPTY, Kind.CAN)
BUSY = "while True: pass"


@dataclass(frozen=True)
class Sample:
    """What a process holds."""

    pid: int
    memory_mb: float
    files: int
    threads: int

    @staticmethod
    def of(pid: int) -> Sample:
        """Look."""
        process = psutil.Process(pid)
        return Sample(pid, process.memory_info().rss / 1e6, process.num_fds(), process.num_threads())

    def leaks(self, first: Sample) -> list[str]:
        """What has grown since `first`."""
        pairs = {
            "memory": self.memory_mb - first.memory_mb > max(GROWTH_MB, GROWTH * first.memory_mb),
            "open files": self.files - first.files > GROWTH_FILES,
            "threads": self.threads - first.threads > GROWTH_THREADS,
        }
        return [name for name, grown in pairs.items() if grown]


@contextmanager
def saturated() -> Iterator[None]:
    """One busy process for each core, at ordinary priority; they end with the context."""
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-S", "-c", BUSY]
    busy = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of the items.")] = 1,
) -> None:
    """Run, and print the tables."""
    console = Console(width=120)
    chance = random.Random(seed)
    problems: list[str] = []
    with machine() as (running, customer):
        kills = Kills(running, customer, limit_s=300.0)
        before = kills.settle()
        pids = {name: running.machine.pid(name) for name in NODES}
        first: dict[str, Sample] = {}
        loads: list[float] = []
        away_s, sampled_s, looked_s = 0.0, 0.0, time.monotonic()
        begun_s, end_s = time.monotonic(), time.monotonic() + 60.0 * minutes

        def look() -> None:
            nonlocal away_s, sampled_s, looked_s, first
            now_s = time.monotonic()
            away_s += now_s - looked_s if customer.status.mode not in SERVING else 0.0
            looked_s = now_s
            if now_s - sampled_s < SAMPLE_S:
                return
            sampled_s = now_s
            loads.append(os.getloadavg()[0])
            if not first and now_s - begun_s > WARM_UP * 60.0 * minutes:
                first = {name: Sample.of(running.machine.pid(name)) for name in NODES}

        customer.meanwhile = look
        with saturated():
            while time.monotonic() < end_s:
                known = set(customer.results)
                try:
                    kills.wait(
                        lambda: customer.state.state in READY_STATES and running.cabinet.chamber_is_free(),
                        "a free chamber",
                    )
                    running.cabinet.insert(chance.choice(KINDS))
                    kills.wait(lambda known=known: set(customer.results) - known, "a result")
                except RvmError as error:
                    problems.append(str(error))
                    break
            after = kills.settle()
            last = {name: Sample.of(running.machine.pid(name)) for name in NODES}
        problems += after.problems(before)
        replaced = {name: running.machine.restarts(name) for name in NODES if running.machine.pid(name) != pids[name]}
        problems += [f"{name} was replaced {count} times" for name, count in replaced.items()]
        problems += [
            f"{name}: {', '.join(leaks)} grew"
            for name in NODES
            if (leaks := last[name].leaks(first.get(name, last[name])))
        ]
        table = Table(title=f"{minutes:g} min, {os.cpu_count()} busy processes; after the warm-up / at the end")
        for heading in ("node", "memory MB", "open files", "threads", "replaced"):
            table.add_column(heading, justify="left" if heading == "node" else "right")
        for name in NODES:
            one, other = first.get(name, last[name]), last[name]
            table.add_row(
                name, f"{one.memory_mb:.1f} / {other.memory_mb:.1f}", f"{one.files} / {other.files}",
                f"{one.threads} / {other.threads}", str(replaced.get(name, 0)),
            )  # fmt: skip
        console.print(table)
        outcomes = Counter(result.outcome for result in customer.results.values())
        console.print(
            f"{len(customer.results)} items: {outcomes[DepositResult.ACCEPTED]} accepted, "
            f"{outcomes[DepositResult.RETURNED]} returned, {outcomes[DepositResult.UNRESOLVED]} unresolved; "
            f"{len(after.evidence.credited)} credits; out of order {away_s:.0f} s; "
            f"load {min(loads):.1f} .. {max(loads):.1f}"
        )
    for problem in problems:
        console.print(problem, markup=False)
    if problems:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
