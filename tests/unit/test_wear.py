"""What a gate has done in its life: counted on over restarts, and begun anew where the file cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from myrvm_hardware.drivers import Direction
from myrvm_hardware.gate import Outcome, Snapshot
from myrvm_hardware.wear import FILE, Wear, WearBook
from structlog.testing import capture_logs


def snapshot(cycles: int, jams: int, run_s: float, gate: str = "gate") -> Snapshot:
    return Snapshot(gate, None, Direction.OFF, "", 0, Outcome.NONE, cycles, jams, run_s, "", ())


def book(folder: Path) -> WearBook:
    return WearBook(folder / FILE, structlog.get_logger())


def test_counts_go_on_after_a_restart(tmp_path: Path) -> None:
    first = book(tmp_path)
    assert first.count(snapshot(4, 1, 2.5)) == Wear(4, 1, 2.5)
    first.count(snapshot(7, 0, 1.0, "upper"))
    first.write()
    second = book(tmp_path)
    assert second.count(snapshot(0, 0, 0.0)) == Wear(4, 1, 2.5)
    assert second.count(snapshot(2, 0, 1.0)) == Wear(6, 1, 3.5)
    second.write()
    third = book(tmp_path)
    assert third.count(snapshot(0, 0, 0.0)) == Wear(6, 1, 3.5)
    assert third.count(snapshot(0, 0, 0.0, "upper")) == Wear(7, 0, 1.0)


def test_nothing_new_is_not_written_again(tmp_path: Path) -> None:
    one = book(tmp_path)
    one.write()
    assert not (tmp_path / FILE).exists()
    one.count(snapshot(1, 0, 0.5))
    one.write()
    (tmp_path / FILE).unlink()
    one.write()
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"gate": 3}', '{"gate": {"cycles": -1, "jams": 0, "motor_run_time_s": 0}}', '{"gate": {}}']
)
def test_a_file_that_is_none_is_told_and_counted_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with capture_logs() as logs:
        one = book(tmp_path)
    assert [entry["event"] for entry in logs] == ["wear of the gate is counted anew"]
    assert one.count(snapshot(1, 0, 0.5)) == Wear(1, 0, 0.5)
    one.write()
    assert book(tmp_path).count(snapshot(0, 0, 0.0)) == Wear(1, 0, 0.5)


def test_a_disk_that_does_not_take_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = WearBook(tmp_path / "file" / FILE, structlog.get_logger())
    one.count(snapshot(1, 0, 0.5))
    with capture_logs() as logs:
        one.write()
    assert [entry["event"] for entry in logs] == ["wear of the gate cannot be written"]
