"""Kills (-9) or freezes (SIGSTOP) each node at each state of a deposit, and audits after each: `make kills ARGS=...`.

One machine is kept up: real graph, simulated cabinet, reference server. A cell is a node and a state; when
deposit/state reaches the state, the node's process gets the signal. Then the item's end is waited for, and ledger,
buffer, bin and screen must agree (`tests/powercut/audit.py`). Each try is a row of `var/kills.csv`, with the load of
the computer at that moment; a run goes on where the last one stopped.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

import typer
from lifecycle_msgs.msg import State
from myrvm_core.errors import RvmError
from myrvm_interfaces.msg import DepositResult, DepositState, SystemStatus
from myrvm_sim.customer import READY_STATES, Customer
from myrvm_sim.desk import Desk, Options, desk
from myrvm_sim.items import Kind
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from myrvm_core import graph as graph_file
from myrvm_core import paths

sys.path.append(str(Path(__file__).parents[1] / "powercut"))
import books  # pyright: ignore[reportMissingImports]
from books import Books  # pyright: ignore[reportMissingImports]

GRAPH = graph_file.load()
NODES = (*GRAPH.names, GRAPH.manager.name)
STATES = {
    "IDLE": Kind.MINERAL,
    "ITEM_DETECTED": Kind.MINERAL,
    "CLASSIFYING": Kind.MINERAL,
    "WEIGHING": Kind.MINERAL,
    "RECORDING": Kind.MINERAL,
    "ACCEPTING": Kind.MINERAL,
    "CONFIRMING": Kind.MINERAL,
    "SETTLING": Kind.MINERAL,
    "SHOWING": Kind.MINERAL,
    "RETURNING": Kind.NOT_EMPTY,
}
"""The states that an item passes, and what is put in to reach each; in IDLE it is put in right after the signal."""
HELD = ("WEIGHING",)
"""States that an item comes to only while a hand is in the gate; it goes with the signal."""
SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}
GOAL_S = {"kill": 5.0, "freeze": 10.0}
SERVING = (SystemStatus.SERVING, SystemStatus.DEGRADED)
ITEMS = 6  # a picture may be refused before the state is reached
FILE = "kills.csv"


@dataclass(frozen=True)
class Trial:
    """One row of the file; `back_s` from the signal to the node's new process being active (NaN: not in time)."""

    when: str
    commit: str
    load: float
    how: str
    node: str
    state: str
    back_s: float
    serving_s: float
    outcomes: str
    lost: int
    doubled: int
    trouble: str


class Kills:
    """A machine that is hit again and again.

    Args:
        desk: the machine's processes.
        customer: watches its topics.
        limit_s: longest wait for anything; longer than a lease, which a killed bridge leaves behind.
    """

    def __init__(self, desk: Desk, customer: Customer, limit_s: float = 90.0) -> None:
        self._desk, self._customer, self._limit_s = desk, customer, limit_s
        self._well = Books()

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Watch until the condition holds; raises RvmError."""
        self._customer.wait(condition, what, self._limit_s)

    def books(self) -> Books:
        """Read all books."""
        return books.read(self._desk.folder, self._desk.server, self._desk.cabinet, self._customer)

    def settle(self) -> Books:
        """Wait until nothing is under way; what is wrong with the books for so long is wrong."""
        self.wait(self._quiet, "a machine at rest")
        with suppress(RvmError):
            self.wait(lambda: not self.books().problems(self._well), "books that agree")
        return self.books()

    def hit(self, node: str, state: str, how: str = "kill") -> Trial:
        """Send the signal to `node` when a deposit reaches `state`; the machine has settled when this returns."""
        before = self._well = self.settle()
        known = set(self._customer.results)
        hit_s: list[float] = []
        old = self._desk.machine.pid(node)
        seen: list[SystemStatus] = []

        def strike() -> None:
            os.kill(old, SIGNALS[how])
            hit_s.append(time.monotonic())
            self._desk.cabinet.set_hand(inside=False)
            seen.append(self._customer.status)

        def watch(message: DepositState) -> None:
            about_item = message.deposit_id or state == "SHOWING"
            if message.state == getattr(DepositState, state) and about_item and not hit_s:
                strike()

        if state == "IDLE":
            strike()
            self._desk.cabinet.insert(STATES[state])
        else:
            self._customer.on_state = watch
        try:
            for _ in range(0 if hit_s else ITEMS):
                self._put_in(STATES[state], holding=state in HELD)
                self.wait(lambda known=known: hit_s or set(self._customer.results) - known, state)
                if hit_s:
                    break
                known = set(self._customer.results)
        finally:
            self._customer.on_state = lambda _: None
        if not hit_s:
            raise RvmError(f"no item of {ITEMS} reached {state}")
        trouble, back_s, serving_s = "", float("nan"), float("nan")
        try:
            self.wait(lambda: self._is_back(node, old, seen[0]), f"an active {node}")
            back_s = time.monotonic() - hit_s[0]
            self.wait(lambda: self._customer.status.mode in SERVING, "a machine that serves")
            serving_s = time.monotonic() - hit_s[0]
            if state not in ("SHOWING", "SETTLING"):
                # By then the customer may have been told; before, the item that was put in must get its result.
                self.wait(lambda: set(self._customer.results) - known, "a result")
            after = self.settle()
            trouble = "; ".join(after.problems(before))
        except RvmError as error:
            trouble, after = str(error), self.books()
        told = [self._customer.results[deposit].outcome for deposit in set(self._customer.results) - known]
        names = {DepositResult.ACCEPTED: "accepted", DepositResult.RETURNED: "returned"}
        return Trial(
            when=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            commit=_commit(),
            load=round(os.getloadavg()[0], 1),
            how=how,
            node=node,
            state=state,
            back_s=round(back_s, 2),
            serving_s=round(serving_s, 2),
            outcomes=" ".join(names.get(outcome, "unresolved") for outcome in told),
            lost=after.lost(before),
            doubled=after.doubled(before),
            trouble=trouble,
        )

    def _quiet(self) -> bool:
        customer = self._customer
        return (
            customer.status.mode in SERVING
            and all(node.lifecycle_state == State.PRIMARY_STATE_ACTIVE for node in customer.status.nodes)
            and customer.state.state in READY_STATES
            and self._desk.cabinet.chamber_is_free()
        )

    def _put_in(self, kind: Kind, holding: bool) -> None:
        self.wait(self._quiet, "a machine at rest")
        self._desk.cabinet.insert(kind)
        self._desk.cabinet.set_hand(inside=holding)

    def _is_back(self, node: str, old: int, before: SystemStatus) -> bool:
        status = self._customer.status
        if node == GRAPH.manager.name:  # it has adopted the graph and says so
            return self._desk.machine.pid(node) not in (0, old) and status is not before and status.mode in SERVING
        return any(
            one.pid not in (0, old) and one.lifecycle_state == State.PRIMARY_STATE_ACTIVE
            for one in status.nodes
            if one.name == node
        )


@contextmanager
def machine() -> Iterator[tuple[Desk, Customer]]:
    """A machine that serves, in a folder that is removed with it."""
    before = dict(os.environ)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="myrvm-") as folder,
            desk(Path(folder), Options()) as running,
            Customer() as customer,
        ):
            yield running, customer
    finally:
        os.environ.clear()
        os.environ.update(before)


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=paths.home(), capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def read(file: Path) -> list[Trial]:
    """All rows of the file; none where there is no file."""
    if not file.is_file():
        return []
    with file.open(newline="") as rows:
        return TypeAdapter(list[Trial]).validate_python(list(csv.DictReader(rows)))


def append(file: Path, trial: Trial) -> None:
    """Add one row."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = not file.is_file()
    with file.open("a", newline="") as rows:
        writer = csv.DictWriter(rows, [f.name for f in fields(Trial)])
        if new:
            writer.writeheader()
        writer.writerow(asdict(trial))


def missing(
    rows: Iterable[Trial], how: str, tries: int, nodes: list[str], states: list[str]
) -> list[tuple[str, str, str]]:
    """The cells that need tries yet, the least tried first; a node comes again only after the others have come.

    A node that ends more often than the restart policy allows is given up, rightly.
    """
    done = [(row.node, row.state) for row in rows if row.how == how]
    chance = random.Random(len(done))
    left = {
        node: [
            state
            for turn in range(tries)
            for state in chance.sample(states, len(states))
            if done.count((node, state)) <= turn
        ]
        for node in nodes
    }
    turns = max(map(len, left.values()), default=0)
    return [
        (how, node, waiting[turn]) for turn in range(turns) for node, waiting in left.items() if turn < len(waiting)
    ]


def show(console: Console, rows: list[Trial], how: str) -> None:
    """Nodes x states: tries, share back within the goal, worst; lost and doubled."""
    rows = [row for row in rows if row.how == how]
    goal_s = GOAL_S[how]
    table = Table(title=f"{how}: tries, active again within {goal_s:g} s, worst (s)")
    table.add_column("node")
    for state in (*STATES, "all"):
        table.add_column(state.lower(), justify="right")
    for heading in ("lost", "doubled"):
        table.add_column(heading, justify="right")
    for node in (*NODES, "all"):
        of_node = [row for row in rows if node in (row.node, "all")]
        cells = [_cell([row for row in of_node if state in (row.state, "all")], goal_s) for state in (*STATES, "all")]
        table.add_row(node, *cells, str(sum(row.lost for row in of_node)), str(sum(row.doubled for row in of_node)))
    console.print(table)
    for row in rows:
        if row.trouble or row.lost or row.doubled:
            console.print(f"{row.when} {row.node} {row.state}: lost {row.lost}, doubled {row.doubled} {row.trouble}")


def _cell(rows: list[Trial], goal_s: float) -> str:
    if not rows:
        return "-"
    in_time = sum(row.back_s < goal_s for row in rows)
    return f"{len(rows)}  {100 * in_time / len(rows):.0f} %  {max(row.back_s for row in rows):.1f}"


def main(
    times: Annotated[int, typer.Option(min=0, help="How often each cell.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.0, help="Stop after this time; the next run goes on.")] = 1e6,
    how: Annotated[str, typer.Option(help="kill, freeze, or both with a comma.")] = "kill,freeze",
    nodes: Annotated[str, typer.Option(help="Names with commas.")] = ",".join(NODES),
    states: Annotated[str, typer.Option(help="Names with commas.")] = ",".join(STATES),
    file: Annotated[Path | None, typer.Option(help="Rows are added to it.")] = None,
) -> None:
    """Hit each node at each state; exit 0 only if nothing was lost, doubled or stuck."""
    console = Console(width=200)
    file = file or paths.data() / FILE
    until_s = time.monotonic() + 60.0 * minutes
    hows = how.split(",")
    rows = read(file)
    cells = [cell for each in hows for cell in missing(rows, each, times, nodes.split(","), states.split(","))]
    failures = 0
    while cells and time.monotonic() < until_s and failures < 3:
        with machine() as (running, customer):
            kills = Kills(running, customer)
            while cells and time.monotonic() < until_s:
                each, node, state = cells[0]
                try:
                    trial = kills.hit(node, state, each)
                except RvmError as error:  # before the signal: says nothing of the node
                    console.print(f"{each} {node} {state}: {error}", soft_wrap=True)
                    failures += 1
                    break
                failures = 0
                cells.pop(0)
                append(file, trial)
                line = f"{each} {node} {state}: back {trial.back_s} s, serves {trial.serving_s} s, {trial.outcomes}"
                console.print(line, trial.trouble, f"({len(cells)} left)", soft_wrap=True)
                if trial.trouble or trial.lost or trial.doubled:
                    break  # a fresh machine; the row tells
    rows = [row for row in read(file) if row.how in hows]
    for each in hows:
        show(console, rows, each)
    if failures or any(row.lost or row.doubled or row.trouble for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
