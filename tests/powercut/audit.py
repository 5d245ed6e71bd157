"""Do ledger, buffer, gate log and screen log agree? The one judge of every power cut, in process or in a machine.

    python tests/powercut/audit.py --ledger ledger.json --buffer buffer/deposits.db --screen screen.jsonl \
        --gate gate.jsonl --pictures unresolved

`ledger.json` is the answer of `GET /api/v1/ledger`; a line of `screen.jsonl` is a DepositResult as
`{"deposit_id": .., "outcome": 1, "points": 10}`; a line of `gate.jsonl` says where an item is at the end, as
`{"deposit_id": .., "place": "bin" | "customer" | "chamber"}`, without an id where the machine had not given one.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ACCEPTED, RETURNED, UNRESOLVED = 1, 2, 3  # DepositResult
WORDS = {ACCEPTED: "accepted", RETURNED: "returned", UNRESOLVED: "unresolved"}


@dataclass
class Evidence:
    """What the four witnesses say, when all is quiet and the server has been reached.

    Args:
        credited: idempotency key and points of each credit.
        rows: state, points and told of each row of the buffer.
        shown: deposit, outcome and points of each DepositResult heard, in order.
        places: deposit (empty: none was made) and place of each item.
        pictures: deposits of which a picture is kept; None: not looked at.
    """

    credited: list[tuple[str, int]] = field(default_factory=list)
    rows: dict[str, tuple[str, int, bool]] = field(default_factory=dict)
    shown: list[tuple[str, int, int]] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)
    pictures: set[str] | None = None


def read_rows(file: Path) -> dict[str, tuple[str, int, bool]]:
    """The rows of a buffer's file."""
    if not file.exists():
        return {}
    connection = sqlite3.connect(file)
    try:
        rows = connection.execute("SELECT deposit_id, state, points, shown FROM deposits").fetchall()
    finally:
        connection.close()
    return {deposit_id: (state, points, bool(shown)) for deposit_id, state, points, shown in rows}


def audit(evidence: Evidence) -> list[str]:
    """What does not agree, a line each; empty: nothing was lost and nothing doubled."""
    return list(_problems(evidence))


def _problems(evidence: Evidence) -> Iterable[str]:
    credits = Counter(key for key, _ in evidence.credited)
    points = dict(evidence.credited)
    told: dict[str, set[int]] = {}
    for deposit_id, outcome, shown_points in evidence.shown:
        told.setdefault(deposit_id, set()).add(outcome)
        if outcome == ACCEPTED and points.get(deposit_id, shown_points) != shown_points:
            yield f"{deposit_id}: shown {shown_points} points, credited {points[deposit_id]}"
    places = {deposit_id: place for deposit_id, place in evidence.places if deposit_id}
    for deposit_id, outcomes in told.items():
        if len(outcomes) > 1:
            yield f"{deposit_id}: told {' and '.join(sorted(WORDS[outcome] for outcome in outcomes))}"
        state, _, _ = evidence.rows.get(deposit_id, ("", 0, False))
        if ACCEPTED in outcomes and credits[deposit_id] != 1:
            yield f"{deposit_id}: accepted on the screen, credited {credits[deposit_id]} times (buffer: {state or '-'})"
        if ACCEPTED not in outcomes and credits[deposit_id]:
            yield f"{deposit_id}: shown as {WORDS[min(outcomes)]} and credited"
        if UNRESOLVED in outcomes and state != "dead":
            yield f"{deposit_id}: shown as unresolved, but the buffer has {state or 'nothing'}"
    for deposit_id, count in credits.items():
        if count > 1:
            yield f"{deposit_id}: credited {count} times"
        if places.get(deposit_id, "bin") != "bin":
            yield f"{deposit_id}: credited, but the item is at the {places[deposit_id]}"
        if deposit_id not in evidence.rows:
            yield f"{deposit_id}: credited, but the buffer does not know it"
    for deposit_id, (state, _, shown) in evidence.rows.items():
        if state not in ("acked", "dead", "void"):
            yield f"{deposit_id}: still {state} in the buffer"
        if state == "acked" and not credits[deposit_id]:
            yield f"{deposit_id}: the buffer says credited, the ledger does not"
        if not shown:
            yield f"{deposit_id}: nobody was told how it ended ({state})"
        if state == "dead" and evidence.pictures is not None and deposit_id not in evidence.pictures:
            yield f"{deposit_id}: unresolved and no picture is kept"
    for deposit_id, place in places.items():
        state, _, _ = evidence.rows.get(deposit_id, ("", 0, False))
        if place == "bin" and not credits[deposit_id] and state != "dead":
            yield f"{deposit_id}: in the bin, neither credited nor reported (buffer: {state or 'nothing'})"
    unknown = sum(place == "bin" and not deposit_id for deposit_id, place in evidence.places)
    if unknown:
        yield f"{unknown} items are in the bin that the machine never judged"


def main() -> int:
    """Read the four logs; exit status 1 where they do not agree."""
    parser = argparse.ArgumentParser(description="Do ledger, buffer, gate log and screen log agree?")
    for name in ("ledger", "buffer", "screen"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("gate", "pictures"):
        parser.add_argument(f"--{name}", type=Path)
    arguments = parser.parse_args()
    credits = json.loads(arguments.ledger.read_text())["credits"]
    screen = [json.loads(line) for line in arguments.screen.read_text().splitlines() if line.strip()]
    gate = arguments.gate.read_text().splitlines() if arguments.gate else []
    evidence = Evidence(
        credited=[(row["idempotency_key"], row["points"]) for row in credits],
        rows=read_rows(arguments.buffer),
        shown=[(line["deposit_id"], line["outcome"], line["points"]) for line in screen],
        places=[(line.get("deposit_id", ""), line["place"]) for line in map(json.loads, filter(str.strip, gate))],
        pictures={path.stem for path in arguments.pictures.glob("*.jpg")} if arguments.pictures else None,
    )
    problems = audit(evidence)
    print(
        f"{len(evidence.shown)} results shown, {len(evidence.rows)} rows, {len(evidence.credited)} credits, "
        f"{len(evidence.places)} items: {'AGREE' if not problems else f'{len(problems)} PROBLEMS'}"
    )
    for line in problems:
        print(line)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
