"""Items a minute on the simulated desk: a customer who puts the next item in as soon as the closed gate lets it.

The peer is the cabinet itself in the same run: the flap's own way to the bin and back and the item's fall, which no
software can shorten. Goals: 30 items a minute with a gate, 60 where the next item may enter while the last one drops.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from myrvm_interfaces.msg import SystemStatus
from myrvm_sim.customer import READY_STATES, Customer
from myrvm_sim.desk import Desk, Options, desk
from myrvm_sim.physics import Kind
from rich.console import Console
from rich.table import Table

START_LIMIT_S = 60.0
ITEM_LIMIT_S = 20.0


def times_s(log: Sequence[dict[str, Any]], what: str, detail: str = "") -> list[float]:
    """When something happened in the cabinet, s."""
    return [row["at_ns"] / 1e9 for row in log if row["what"] == what and row["detail"].startswith(detail)]


def after(times: Sequence[float], begin_s: float) -> float:
    """The first of the times after `begin_s`."""
    return next((time_s for time_s in times if time_s >= begin_s), float("nan"))


def serve(machine: Desk, customer: Customer, items: int) -> tuple[float, list[dict[str, Any]]]:
    """Let a customer put in items; items a minute, and the cabinet's log of it."""
    session = customer.start_session("")
    seen = len(machine.cabinet.log())
    for _ in range(items):
        customer.wait(machine.cabinet.chamber_is_free, "room for the next item", ITEM_LIMIT_S)
        number = machine.cabinet.insert(Kind.MINERAL)["number"]
        customer.wait(lambda number=number: place(machine, number) != "chamber", "the item's end", ITEM_LIMIT_S)
    customer.wait(lambda: len(customer.results) >= items, "all results", ITEM_LIMIT_S)
    customer.end_session(session)
    log = machine.cabinet.log()[seen:]
    inserted = times_s(log, "inserted")
    return 60.0 * (len(inserted) - 1) / (inserted[-1] - inserted[0]), log


def place(machine: Desk, number: int) -> str:
    """Where an item is."""
    return next(item["place"] for item in machine.cabinet.truth()["items"] if item["number"] == number)


def print_tables(rate: float, log: list[dict[str, Any]], items: int) -> None:
    """The rate, and where a period goes."""
    inserted, motor_on = times_s(log, "inserted"), times_s(log, "motor", "to_bin")
    steps: dict[str, list[float]] = {"item in to gate moving": [], "period from item to item": []}
    for begin_s, next_s in itertools.pairwise(inserted):
        steps["item in to gate moving"].append(after(motor_on, begin_s) - begin_s)
        steps["period from item to item"].append(next_s - begin_s)
    table = Table("step", "p50", "p95")
    for name, values in steps.items():
        tail = statistics.quantiles(values, n=20)[-1]
        table.add_row(name, f"{statistics.median(values):.2f} s", f"{tail:.2f} s")
    goals = Table("figure", "measured", "goal")
    goals.add_row(f"items a minute, {items} items", f"{rate:.0f}", ">= 30")
    console = Console(width=100)
    console.print(table, goals)


def main() -> None:
    """Bring the desk up, measure, end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20, help="items to serve")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="rvm-") as folder,
        desk(Path(folder), Options()) as machine,
        Customer() as customer,
    ):
        customer.wait(lambda: customer.status.mode == SystemStatus.SERVING, "a machine that serves", START_LIMIT_S)
        customer.wait(lambda: customer.state.state in READY_STATES, "a machine that is ready", START_LIMIT_S)
        rate, log = serve(machine, customer, options.items)
        print_tables(rate, log, options.items)


if __name__ == "__main__":
    main()
