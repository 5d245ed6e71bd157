"""Items a minute at the simulated desk: a customer puts the next item in as soon as the closed gate lets it.

Two rows in one run: the desk as it ships, and the same set for speed (camera at 30 Hz, item looked at after 80 ms,
motor turned round after 60 ms). In both the gate closes while the last item still drops. Beside them what the cabinet's
own flap takes, which no software can shorten. Goals: 30 items a minute with a gate, 60 where the next item may enter
while the last one drops.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myrvm_interfaces.msg import DepositResult, SystemStatus
from myrvm_sim.customer import READY_STATES, Customer
from myrvm_sim.desk import Desk, Options, desk
from rich.console import Console
from rich.table import Table

from myrvm_sim import album

START_LIMIT_S = 60.0
ITEM_LIMIT_S = 20.0
PICTURE = album.PICTURES / "mineral_00.jpg"  # the same each time: what is measured is not the model
FAST = """
camera: {ros__parameters: {frame_rate_hz: 30.0}}
actuator: {ros__parameters: {dead_time_s: 0.06}}
deposit: {ros__parameters: {settle_s: 0.08}}
"""


@dataclass(frozen=True)
class Run:
    """What happened: the cabinet's log, and how many results said accepted."""

    log: Sequence[dict[str, Any]]
    accepted: int

    def times_s(self, what: str, detail: str = "") -> list[float]:
        """When something happened in the cabinet, s."""
        return [row["at_ns"] / 1e9 for row in self.log if row["what"] == what and row["detail"].startswith(detail)]


def serve(machine: Desk, customer: Customer, items: int) -> Run:
    """Let a customer put in items."""
    customer.wait(lambda: customer.status.mode == SystemStatus.SERVING, "a machine that serves", START_LIMIT_S)
    customer.wait(lambda: customer.state.state in READY_STATES, "a machine that is ready", START_LIMIT_S)
    session = customer.start_session("")
    seen = len(machine.cabinet.log())
    for count in range(1, items + 1):
        customer.wait(machine.cabinet.chamber_is_free, "room for the next item", ITEM_LIMIT_S)
        machine.cabinet.insert(picture=PICTURE)
        customer.wait(lambda count=count: len(customer.results) >= count, "its result", ITEM_LIMIT_S)
    customer.end_session(session)
    accepted = [result for result in customer.results.values() if result.outcome == DepositResult.ACCEPTED]
    return Run(machine.cabinet.log()[seen:], len(accepted))


def row(name: str, run: Run, goal: str) -> tuple[str, ...]:
    """One row of the table."""
    inserted, moving = run.times_s("inserted"), run.times_s("motor", "to_bin")
    in_bin, closing = run.times_s("bin"), run.times_s("motor", "to_customer")
    begun = [moved - entered for entered, moved in zip(inserted, moving, strict=False)]
    periods = [later - earlier for earlier, later in itertools.pairwise(inserted)]
    flap = [later - earlier for earlier, later in zip(moving, run.times_s("gate", "bin"), strict=False)]
    early = sum(closed < dropped for closed, dropped in zip(closing, in_bin, strict=False))
    rate = 60.0 * len(periods) / (inserted[-1] - inserted[0])
    return (
        name,
        f"{statistics.median(begun):.2f} / {statistics.quantiles(begun, n=20)[-1]:.2f} s",
        f"{statistics.median(periods):.2f} s",
        f"{2.0 * statistics.median(flap):.2f} s",
        f"{early} of {len(in_bin)}",
        f"{rate:.0f}, {run.accepted} of {len(inserted)} accepted",
        goal,
    )


def main() -> None:
    """Bring each desk up, measure, end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20, help="items to serve on each desk")
    options = parser.parse_args()
    table = Table(
        "desk", "item in to gate moving, p50 / p95", "item to item, p50", "of that the flap", "closes while it drops",
        "items a minute", "goal",
    )  # fmt: skip
    for name, text, goal in (("as it ships", "", ">= 30"), ("set for speed", FAST, "60")):
        with tempfile.TemporaryDirectory(prefix="rvm-") as folder:
            parameters = Path(folder) / "parameters.yaml"
            parameters.write_text(text or "{}")
            with desk(Path(folder), Options(parameters=(parameters,))) as machine, Customer() as customer:
                table.add_row(*row(name, serve(machine, customer, options.items), goal))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
