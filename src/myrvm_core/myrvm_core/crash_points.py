"""Every point at which a deposit can be interrupted, and what the next start makes of it.

`docs/protocol.md` shows the table; `tests/unit/test_crash_points.py` holds it against `myrvm_deposit.recovery`, and
`tests/powercut` cuts the power at each point. "Restart": processes were killed while the sensors went on watching.
"Cut": the power was gone, and nobody saw what happened meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from myrvm_core.deposit import Ending
from myrvm_core.deposit_record import Stage


class Place(Enum):
    """Where the item is when the machine starts again."""

    CHAMBER = "in the chamber"
    BIN = "in the bin"
    CUSTOMER = "with the customer"


@dataclass(frozen=True)
class CrashPoint:
    """One row. `restart` and `cut` are what the customer is told then; None: nothing, there is no deposit.

    Args:
        name: what has happened last.
        stage: of the record on disk, None without one.
        told: whether the disk knows that the customer was told.
        place: of the item.
        then: what the next start does.
    """

    name: str
    stage: Stage | None
    told: bool
    place: Place
    restart: Ending | None
    cut: Ending | None
    then: str


_E, _P = Ending, Place
POINTS: tuple[CrashPoint, ...] = (
    CrashPoint("item lies in the chamber, not judged or not on record", None, False, _P.CHAMBER, None, None,
               "a new item: it is judged again"),
    CrashPoint("refused, or taken out again", None, False, _P.CUSTOMER, None, None, "nothing"),
    CrashPoint("recorded, the gate has not moved the item", Stage.ACCEPTED, False, _P.CHAMBER, _E.RETURNED,
               _E.UNRESOLVED, "offered back; after a cut it may be another item, so the record goes to the technician"),
    CrashPoint("fell into the bin, not yet on disk", Stage.ACCEPTED, False, _P.BIN, _E.ACCEPTED, _E.UNRESOLVED,
               "credited where the drop was seen, else to the technician, with the picture"),
    CrashPoint("given back, not yet on disk", Stage.ACCEPTED, False, _P.CUSTOMER, _E.UNRESOLVED, _E.UNRESOLVED,
               "to the technician, with the picture; not credited"),
    CrashPoint("taken, on disk; told or not", Stage.TAKEN, False, _P.BIN, _E.ACCEPTED, _E.ACCEPTED,
               "told (again), sent, credited once"),
    CrashPoint("taken, told, sent or not, credited or not", Stage.TAKEN, True, _P.BIN, None, None,
               "sent (again) under the same key, credited once"),
    CrashPoint("returned, on disk; told or not", Stage.RETURNED, False, _P.CUSTOMER, _E.RETURNED, _E.RETURNED,
               "told (again)"),
    CrashPoint("returned, told", Stage.RETURNED, True, _P.CUSTOMER, None, None, "nothing"),
    CrashPoint("unresolved, on disk; told or not", Stage.UNRESOLVED, False, _P.BIN, _E.UNRESOLVED, _E.UNRESOLVED,
               "told (again); kept for the technician, with the picture"),
    CrashPoint("unresolved, told", Stage.UNRESOLVED, True, _P.BIN, None, None,
               "kept for the technician, with the picture"),
)  # fmt: skip


def table() -> str:
    """The rows as a Markdown table."""
    lines = ["| what has happened | on disk | the item is | told after a restart | told after a cut | the next start |"]
    lines.append("|---|---|---|---|---|---|")
    for point in POINTS:
        told = ", told" if point.told else ""
        disk = "nothing" if point.stage is None else point.stage.name + told
        endings = (ending.name if ending else "" for ending in (point.restart, point.cut))
        lines.append(f"| {' | '.join([point.name, disk, point.place.value, *endings, point.then])} |")
    return "\n".join(lines) + "\n"
