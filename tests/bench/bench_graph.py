"""The whole graph on the simulated desk: start to all active, CPU idle and serving, memory of each process (PSS).

Goals: start < 10 s, idle < 30 % of a core in all, an item each 5 s < 70 % of the machine, whole graph < 2 GB,
detector < 600 MB. The simulated cabinet and the reference server are not counted: they are not on a device.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from myrvm_sim.customer import Customer
from myrvm_sim.desk import Desk, Options, desk
from myrvm_sim.physics import Kind
from rich.console import Console
from rich.table import Table

START_LIMIT_S = 60.0
ITEM_PERIOD_S = 5.0
TICKS_HZ = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU time of a process, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_HZ


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def shares(pids: dict[str, int], run: Callable[[], None]) -> dict[str, float]:
    """CPU of each process while `run` runs, % of a core."""
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    begun_s = time.monotonic()
    run()
    return {name: 100 * (cpu_s(pid) - before[name]) / (time.monotonic() - begun_s) for name, pid in pids.items()}


def measure(desk_: Desk, customer: Customer, begun_s: float, idle_s: float, items: int) -> None:
    """Print both tables."""

    def idle() -> None:
        time.sleep(idle_s)

    def serve() -> None:
        for number in range(items):
            end_s = time.monotonic() + ITEM_PERIOD_S
            if desk_.cabinet.chamber_is_free():
                desk_.cabinet.insert(Kind.MINERAL if number % 2 else Kind.NOT_EMPTY)
            customer.wait(lambda end_s=end_s: time.monotonic() > end_s, "the next item", 2 * ITEM_PERIOD_S)

    customer.wait(lambda: customer.status.start_time_s > 0, "all nodes active", START_LIMIT_S)
    start_s = time.monotonic() - begun_s
    pids = {name: desk_.machine.pid(name) for name in desk_.machine.names}
    shares(pids, lambda: time.sleep(5.0))  # what was left to do at the start is done
    idling = shares(pids, idle)
    serving = shares(pids, serve)
    memory_mb = {name: pss_mb(pid) for name, pid in pids.items()}
    table = Table("process", "idle, % of a core", "serving, % of a core", "PSS, MB")
    for name in pids:
        table.add_row(name, f"{idling[name]:.1f}", f"{serving[name]:.1f}", f"{memory_mb[name]:.0f}")
    cores = os.cpu_count() or 1
    goals = Table("figure", "measured", "goal")
    goals.add_row("processes begun to all active", f"{start_s:.1f} s", "< 10 s")
    goals.add_row("of that, from the manager on", f"{customer.status.start_time_s:.1f} s", "")
    goals.add_row("idle CPU, all processes", f"{sum(idling.values()):.0f} % of a core", "< 30 %")
    goals.add_row(
        f"CPU with an item each {ITEM_PERIOD_S:g} s ({len(customer.results)} of {items} served)",
        f"{sum(serving.values()) / cores:.0f} % of the machine", "< 70 %",
    )  # fmt: skip
    goals.add_row("memory, all processes", f"{sum(memory_mb.values()):.0f} MB", "< 2048 MB")
    goals.add_row("memory, detector", f"{memory_mb['detector']:.0f} MB", "< 600 MB")
    goals.add_row("load of the machine meanwhile", f"{os.getloadavg()[0]:.1f}", f"{cores} cores")
    console = Console(width=100)
    console.print(table, goals)


def main() -> None:
    """Bring the desk up, measure, end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of idling")
    parser.add_argument("--items", type=int, default=8, help="items to serve")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rvm-") as folder:
        begun_s = time.monotonic()
        with desk(Path(folder), Options()) as machine, Customer() as customer:
            measure(machine, customer, begun_s, options.idle, options.items)
            stopped_s = time.monotonic()
            machine.machine.stop()
            print(f"clean stop: {time.monotonic() - stopped_s:.1f} s; {machine.machine.cleaned}")


if __name__ == "__main__":
    main()
