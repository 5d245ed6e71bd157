"""The table of crash points is what recovery does."""

from __future__ import annotations

import pytest
from myrvm_core.crash_points import POINTS, CrashPoint, Place
from myrvm_core.deposit import (
    ENDING_OF_STAGE,
    DepositMachine,
    Ending,
    GateFinished,
    ItemEntered,
    ItemLeft,
    Recovered,
    Timing,
    Update,
)
from myrvm_core.deposit_record import DepositRecord, Stage
from myrvm_deposit.recovery import resolve

RECORDED_NS, RESTART_NS, CUT_NS = 100, 90, 200  # the sensors watch since before the record, or since after it


def told(point: CrashPoint, watching_since_ns: int) -> Ending | None:
    """What the customer is told about the record of a crash point, once its item is out of the chamber."""
    if point.stage is None or point.told:
        return None  # the buffer lists no such record
    record = DepositRecord("deposit-1", "mineral", 0.9, 10, RECORDED_NS, stage=point.stage)
    seen = point.place is Place.BIN and watching_since_ns < RECORDED_NS
    resolution = resolve([record], [150] if seen else [], point.place is Place.CHAMBER, watching_since_ns)
    if resolution.present is None:
        ((_, stage),) = resolution.ended
        return ENDING_OF_STAGE[stage]
    machine = DepositMachine(Timing(), 10, donations=True)
    machine.handle(ItemEntered(RECORDED_NS, "deposit-2"), 1.0, 1)
    machine.handle(Recovered(present=record, blind=resolution.blind), 2.0, 2)
    machine.handle(GateFinished(done=True), 3.0, 3)
    (update,) = machine.handle(ItemLeft(), 4.0, 4)
    assert isinstance(update, Update)
    return ENDING_OF_STAGE[update.stage]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_the_next_start_does_what_the_table_says(point: CrashPoint) -> None:
    assert (told(point, RESTART_NS), told(point, CUT_NS)) == (point.restart, point.cut)


def test_every_stage_told_or_not_is_in_the_table() -> None:
    rows = {(point.stage, point.told) for point in POINTS}
    assert rows == {(None, False), (Stage.ACCEPTED, False)} | {
        (stage, told) for stage in (Stage.TAKEN, Stage.RETURNED, Stage.UNRESOLVED) for told in (False, True)
    }
    places = {point.place for point in POINTS if point.stage is Stage.ACCEPTED}
    assert places == set(Place), "an open record may have its item anywhere"
