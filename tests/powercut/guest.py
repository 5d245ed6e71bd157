"""Serves customers in a virtual machine until its plug is pulled: the nodes' own code on the guest's own disk.

Customers, cabinet, screen and server are the world of this folder; what happens there no power cut takes back: it is
written to a file of the machine outside, each line before the next thing happens. After the next boot the machine has
the data on its disk, and nothing else. Then the audit compares both, and customers come again.

Usage: `guest.py DATA_FOLDER MARKS_FILE serve|end [forgets-to-sync]` (deploy/device-vm calls it).
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

from audit import ACCEPTED, Evidence, audit, read_rows
from myrvm_core.deposit import State
from world import JPEG, START_NS, Truth, World, truth_of

DOWN_NS = 20_000_000_000  # the power is back
VISITS_BETWEEN_AUDITS = 5


class Outside:
    """The file on the machine outside; `witness` is a file on the guest's own disk that nobody syncs."""

    def __init__(self, marks: Path, witness: Path) -> None:
        self._marks, self._witness = marks, witness
        self._file = os.open(marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        times_ns = (json.loads(line)["at_ns"] for line in reversed(self.lines()) if line.startswith("{"))
        self.started_ns = next(times_ns, START_NS - DOWN_NS) + DOWN_NS
        self.clock: Callable[[], int] = lambda: self.started_ns

    def mark(self, text: str) -> None:
        """Something happened."""
        if text.startswith("{"):
            text = f'{text[:-1]}, "at_ns": {self.clock()}}}'
        os.write(self._file, text.encode() + b"\n")
        if text.startswith('{"event": "shown"'):
            with self._witness.open("a") as file:
                file.write("shown\n")

    def lines(self) -> list[str]:
        """All that has happened."""
        return self._marks.read_text().splitlines()

    def witnessed(self) -> int:
        """What is left of the file that nobody syncs."""
        return self._witness.read_text(errors="replace").count("shown\n") if self._witness.exists() else 0


def fall_or_stay(truth: Truth, chance: random.Random, mark: Callable[[str], None]) -> None:
    """An item in a gate that was moving when the power went may have fallen, while nobody looked."""
    number = truth.in_chamber
    if truth.moving and number is not None and truth.items[number].kind != "jams" and chance.random() < 0.5:
        mark(json.dumps({"event": "place", "item": number, "place": "bin", "deposit_id": ""}))
    mark(json.dumps({"event": "gate", "moving": False}))


def served_last(lines: list[str]) -> bool | None:
    """Whether the last boot came as far as serving; None where there was none."""
    if "start" not in lines:
        return None
    begun = len(lines) - lines[::-1].index("start")
    return "serving" in lines[begun:]


def start(data: Path, outside: Outside, chance: random.Random) -> World:
    """What the machine does when the power is back, and what is wrong with the result, as marks."""
    again = served_last(outside.lines()) is False
    outside.mark("start")
    outside.mark(f"witness {outside.witnessed()}")
    fall_or_stay(truth_of(outside.lines()), chance, outside.mark)
    truth = truth_of(outside.lines())
    open_session, ended = truth.session_id, set(truth.ended_sessions)
    if again:
        open_session = ""  # it may have timed out meanwhile
    world = World(data, chance.randrange(1 << 30), outside.mark, truth, outside.started_ns)
    outside.clock = world.bus.now_ns
    machine = world.deposit._machine
    world.bus.run(lambda: machine.state is not State.RECOVERING, 30.0)
    session_id = machine.session.session_id if machine.session else ""
    if session_id in ended:
        outside.mark(f"problem session {session_id} had ended and is open again")
    if open_session and session_id != open_session:
        outside.mark(f"problem the customer's session {open_session} is lost")
    world.settle()
    world.insert("good")
    world.settle()
    if not truth.shown or truth.shown[-1]["outcome"] != ACCEPTED:
        outside.mark(f"problem the next good item is not accepted, state {machine.state.name}")
    return world


def compare(data: Path, world: World, mark: Callable[[str], None]) -> None:
    """Ledger, buffer, gate log and screen log must agree now."""
    truth = world.truth
    unjudged = [item for item in truth.items if item.place == "bin" and not item.deposit_id]
    evidence = Evidence(
        credited=list(truth.ledger.items()),
        rows=read_rows(data / "buffer" / "deposits.db"),
        shown=[(shown["deposit_id"], shown["outcome"], shown["points"]) for shown in truth.shown],
        places=[(item.deposit_id, item.place) for item in truth.items if item not in unjudged],
        pictures={path.stem for path in (data / "unresolved").glob("*.jpg") if path.read_bytes() == JPEG},
    )
    problems = audit(evidence) + [f"damage reported: {report}" for report in world.buffer._buffer.reports]
    for problem in problems:
        mark(f"problem {problem}")
    mark(f"audit {len(evidence.rows)} rows, {len(evidence.credited)} credits, {len(evidence.shown)} shown")


def main(data: Path, marks: Path, task: str, *options: str) -> None:
    """Recover, compare, serve."""
    data.mkdir(exist_ok=True)
    outside = Outside(marks, data / "witness")
    world = start(data, outside, random.Random())
    if "forgets-to-sync" in options:
        world.buffer._buffer._connection.execute("PRAGMA synchronous = OFF")
    compare(data, world, outside.mark)
    outside.mark("serving" if task == "serve" else "end")
    while task == "serve":
        for _ in range(VISITS_BETWEEN_AUDITS):
            world.visit()
        world.settle()
        compare(data, world, outside.mark)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
