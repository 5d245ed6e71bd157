"""What becomes of deposits that a crash has interrupted: decided from the record and from what the sensors saw.

`docs/protocol.md` has the table (`myrvm_core.crash_points`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from myrvm_core.deposit_record import DepositRecord, Stage


@dataclass(frozen=True)
class Resolution:
    """`ended`: records with the stage they get; `present`: the record whose item has to be given back, if any.

    `blind`: whether the item in the chamber is that record's is not known, since the sensors were away in between.
    """

    ended: tuple[tuple[DepositRecord, Stage], ...] = ()
    present: DepositRecord | None = None
    blind: bool = False


def resolve(
    records: Iterable[DepositRecord], drops_ns: Sequence[int], item_present: bool, watching_since_ns: int = 0
) -> Resolution:
    """Decide.

    Args:
        records: accepted ones, and ended ones that were not told; in any order.
        drops_ns: ROS times at which something fell into the bin.
        item_present: something is in the chamber now.
        watching_since_ns: ROS time since which the sensors have missed nothing.
    """
    ordered = sorted(records, key=lambda record: record.accepted_at_ns)
    open_records = [record for record in ordered if record.stage is Stage.ACCEPTED]
    ended: list[tuple[DepositRecord, Stage]] = []
    present: DepositRecord | None = None
    unused = sorted(drops_ns)
    for record in ordered:
        if record.stage is not Stage.ACCEPTED:
            ended.append((record, record.stage))
            continue
        drop = next((drop for drop in unused if drop > record.accepted_at_ns), None)
        if drop is not None:
            unused.remove(drop)
            ended.append((record, Stage.TAKEN))
        elif item_present and record is open_records[-1]:
            present = record
        else:
            ended.append((record, Stage.UNRESOLVED))
    blind = present is not None and present.accepted_at_ns < watching_since_ns
    return Resolution(tuple(ended), present, blind)
