"""`rvm status` and `rvm doctor`: what a technician has to see."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from myrvm_core.overlay import FILE as OVERLAY
from myrvm_core.overlay import Overlay, OverlayFile, State, summary
from myrvm_interfaces.msg import GateState, OperatingLimits, Output, Outputs, SystemStatus
from myrvm_system.manager import Verb
from myrvm_system.standing_order import FILE, Order, OrderFile, standing
from myrvm_system.status_view import Screen
from rich.console import Console

from myrvm_system import doctor, selftest


def drawn(screen: Screen) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(screen.draw())
    return console.export_text()


def test_maintenance_limits_gate_and_outputs_are_shown():
    screen = Screen()
    screen.latest["system/status"] = SystemStatus(mode=SystemStatus.MAINTENANCE, reasons=[SystemStatus.REASON_POWER])
    screen.latest["health/limits"] = OperatingLimits(level=OperatingLimits.DARK, message="on battery, 40 %")
    screen.latest["actuator/state"] = GateState(
        position=GateState.POSITION_CLOSED, lifetime_cycles=1234, lifetime_motor_run_time_s=5400.0, jams=2
    )
    screen.latest["actuator/outputs"] = Outputs(outputs=[Output(name="door_lock", on=True), Output(name="buzzer")])
    shown = drawn(screen)
    for words in (
        "MAINTENANCE POWER", "DARK", "on battery, 40 %", "closed",
        "1234 cycles and 1.5 h of motor in its life, 2 jams since the start", "door_lock",
    ):  # fmt: skip
        assert words in shown
    assert "buzzer" not in shown


def test_the_version_of_the_configuration_is_shown_and_whether_it_is_on_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path))
    screen = Screen()
    screen.latest["system/status"] = SystemStatus(mode=SystemStatus.SERVING)
    assert "as installed" in drawn(screen)
    changed = Overlay(7, {"deposit": {"show_s": 3.0}})
    OverlayFile().write(State(changed, on_trial=True, newest=7))
    assert "version 7, on trial" in drawn(screen)
    OverlayFile().write(State(changed, newest=7))
    shown = drawn(screen)
    assert "version 7" in shown
    assert "on trial" not in shown
    (tmp_path / OVERLAY).write_text("{")
    words, well = summary()
    assert "nothing in it counts" in words
    assert not well
    assert words.split()[0][:40] in drawn(screen)


def test_why_the_gate_stands_is_shown_first():
    screen = Screen()
    screen.latest["system/status"] = SystemStatus(mode=SystemStatus.OUT_OF_ORDER)
    screen.latest["actuator/state"] = GateState(obstacles=["door is open", "hand is in the gate"])
    assert "door is open, hand is in the gate" in drawn(screen)
    screen.latest["actuator/state"] = GateState(obstacles=["door is open"], fault="gate jams on its way to bin")
    assert "gate jams on its way to bin" in drawn(screen)


@pytest.mark.parametrize(
    ("verb", "said"), [(Verb.MAINTENANCE, "rvm maintenance off, before you leave"), (Verb.PAUSE, "RESUME"), (None, "")]
)
def test_an_order_that_stands_is_something_to_do(
    verb: Verb | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path))
    OrderFile(tmp_path / FILE).write(Order(verb))
    found = list(doctor._order())  # pyright: ignore[reportPrivateUsage]
    assert [said in line.advice for line in found] == ([True] if verb else [])
    (tmp_path / FILE).write_text("{")
    assert standing(tmp_path / FILE) is None
    assert (tmp_path / FILE).read_text() == "{"  # whoever only looks mends nothing


def test_a_failed_self_test_is_something_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path))
    assert list(doctor._selftests()) == []  # pyright: ignore[reportPrivateUsage]
    report = selftest.Report("desk", selftest.FULL, "2026-02-02T02:40:00Z", "2026-02-02T02:41:00Z")
    report.entries.append(selftest.Entry("light light_ring", selftest.Outcome.FAILED, "dark", {}, 1.0))
    selftest.keep(report, tmp_path / "selftest")
    (line,) = doctor._selftests()  # pyright: ignore[reportPrivateUsage]
    assert (line.subject, line.advice) == ("full self-test", "repair, then rvm selftest")
    assert "failed: light light_ring" in line.found
