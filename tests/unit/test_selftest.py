"""The self-test's checks against a machine that is a few fields of this file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from myrvm_core.errors import DeviceError, StorageError
from myrvm_system.selftest import (
    Action,
    Drive,
    Driven,
    Facts,
    Look,
    Move,
    Moved,
    Outcome,
    Report,
    StartTest,
    TakePicture,
    Unable,
    Wait,
)

from myrvm_system import selftest


@dataclass
class Machine:
    """Stand-in for machine and technician; `dead` inputs and outputs do not follow."""

    levels: dict[str, bool | None] = field(
        default_factory=lambda: dict.fromkeys(("entry", "drop", "door", "emergency", "power_fail"), False)
    )
    values: dict[str, float | None] = field(default_factory=lambda: {"weight": 0.001})
    outputs: dict[str, bool] = field(default_factory=lambda: {"light_ring": False, "buzzer": False})
    dead: frozenset[str] = frozenset()
    brightness: float | str = 100.0
    jammed: str = ""
    attended: bool = True
    watching: bool = True
    gate: str = "CLOSED"
    problems: dict[str, str] = field(default_factory=lambda: dict.fromkeys(("sensor", "camera", "actuator"), ""))
    done: list[Action] = field(default_factory=list[Action])

    def perform(self, action: Action) -> Any:
        self.done.append(action)
        match action:
            case Look():
                return Facts(self.levels.copy(), self.values.copy(), self.outputs.copy(), self.watching, self.gate,
                             self.problems)  # fmt: skip
            case Wait(role, active):
                if self.levels[role] == active:
                    return 0.0
                if not self.attended:
                    return Unable()
                if role in self.dead:
                    return None
                self.levels[role] = active
                return 0.5
            case Drive(name, on):
                if "door" in self.levels and not self.levels["door"]:
                    return Driven(False, "a technician drives outputs only with the door open")
                self.outputs[name] = on
                return Driven(False if name in self.dead else on)
            case TakePicture():
                if isinstance(self.brightness, str):
                    return self.brightness
                return self.brightness + 50.0 * (self.outputs["light_ring"] and "light_ring" not in self.dead)
            case Move(verb, _):
                assert not self.levels["door"]
                return Moved(0.8, 0.4, "JAMMED" if verb == self.jammed else "")


def clock() -> Iterator[float]:
    now_s = 0.0
    while True:
        yield now_s
        now_s += 1.5


def examined(machine: Machine, full: bool = True) -> dict[str, selftest.Entry]:
    report = Report("desk", "full" if full else "short", "2026-02-02T02:40:00Z")
    checks = selftest.full_checks(machine.perform(Look())) if full else selftest.short_checks()
    ticks = clock()
    told: list[selftest.Entry] = []
    selftest.run(report, checks, machine.perform, lambda: next(ticks), told.append)
    assert told == report.entries
    assert report.failed == [entry.name for entry in told if entry.outcome is Outcome.FAILED]
    return {entry.name: entry for entry in told}


def failures(entries: dict[str, selftest.Entry]) -> list[str]:
    return [name for name, entry in entries.items() if entry.outcome is Outcome.FAILED]


def test_a_machine_that_is_well_passes_everything():
    machine = Machine()
    entries = examined(machine)
    assert failures(entries) == []
    assert [entry.name for entry in entries.values() if entry.outcome is Outcome.SKIPPED] == ["input power_fail"]
    assert entries["gate cycle"].figures["accept_s"] == 0.8
    assert entries["light light_ring"].figures == {"brightness_off": 100.0, "brightness_on": 150.0}
    assert entries["input entry"].figures == {"active_s": 0.5, "inactive_s": 0.5}
    assert entries["camera picture"].duration_s == 1.5
    assert machine.outputs == {"light_ring": False, "buzzer": False}
    assert machine.levels["door"] is False


def test_the_short_form_needs_nobody_and_switches_nothing():
    machine = Machine(attended=False, outputs={"light_ring": True})
    entries = examined(machine, full=False)
    assert failures(entries) == []
    assert all(isinstance(action, Look) for action in machine.done)
    assert list(entries) == [
        "sensors answer", "sensors at rest", "gate home", "outputs read", "node sensor", "node camera", "node actuator",
    ]  # fmt: skip
    assert entries["outputs read"].message == "1 read back, on: light_ring"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"watching": False}, ["sensors answer"]),
        ({"values": {"weight": None}}, ["sensors answer"]),
        ({"values": {"weight": math.nan}}, ["sensors at rest"]),
        ({"brightness": "no picture within 5 s"}, ["camera picture", "light light_ring"]),
        ({"brightness": 2.0}, ["camera picture"]),
        ({"brightness": 250.0}, ["camera picture"]),
        ({"jammed": "HOME"}, ["gate cycle"]),
        ({"gate": "UNKNOWN"}, ["gate home"]),
        ({"problems": {"sensor": "", "actuator": "gate jams"}}, ["node camera", "node actuator"]),
        ({"jammed": "RETURN"}, ["gate cycle"]),
        ({"dead": frozenset({"entry"})}, ["input entry"]),
        ({"dead": frozenset({"buzzer"})}, ["output buzzer"]),
        ({"dead": frozenset({"light_ring"})}, ["output light_ring", "light light_ring"]),
        ({"dead": frozenset({"door"})}, ["input door opens"]),
    ],
)
def test_each_fault_fails_its_own_check(changes: dict[str, Any], names: list[str]):
    assert failures(examined(Machine(**changes))) == names


def test_an_input_that_is_active_at_rest_is_named():
    machine = Machine()
    machine.levels["drop"] = True
    entry = examined(machine, full=False)["sensors at rest"]
    assert entry.message == "active with nothing in the machine: drop"


def test_the_gate_does_not_move_with_an_open_door_or_an_item_inside():
    machine = Machine(attended=False)
    machine.levels["door"] = True
    assert "gate must not move" in examined(machine)["gate cycle"].message
    assert not [action for action in machine.done if isinstance(action, Move)]
    machine = Machine()
    machine.levels["entry"] = True
    assert "take it out" in examined(machine)["gate cycle"].message
    assert not [action for action in machine.done if isinstance(action, Move)]


def test_each_gate_has_its_cycle():
    machine = Machine()
    names = [name for name, _ in selftest.full_checks(replace(machine.perform(Look()), more_gates=("sorter",)))]
    assert names[:2] == ["gate cycle", "gate cycle sorter"]
    check = selftest.gate("HOME", name="sorter")
    assert selftest.run_check(check, machine.perform).outcome is Outcome.PASSED
    assert [action.gate for action in machine.done if isinstance(action, Move)] == ["sorter"]


def test_what_nobody_can_wiggle_is_skipped_not_passed():
    entries = examined(Machine(attended=False))
    assert entries["input entry"].outcome is Outcome.SKIPPED
    assert entries["input door opens"].outcome is Outcome.SKIPPED
    assert entries["output buzzer"].outcome is entries["light light_ring"].outcome is Outcome.SKIPPED
    assert failures(entries) == []


def test_an_action_that_fails_fails_its_check_and_the_next_one_runs():
    def broken(action: Action) -> Any:
        raise DeviceError("nobody serves camera/capture")

    report = Report("desk", "short", "2026-02-02T02:40:00Z")
    selftest.run(report, [("a", selftest.camera()), ("b", selftest.at_rest())], broken, lambda: 0.0, lambda _: None)
    assert [entry.message for entry in report.entries] == ["nobody serves camera/capture"] * 2
    assert report.failed == ["a", "b"]


def made(number: int) -> Report:
    report = Report("desk", "short", f"2026-02-02T02:40:{number:02}Z", "2026-02-02T02:41:00Z")
    report.entries.append(selftest.Entry("camera", Outcome.FAILED, "dark", {"brightness": math.nan}, 1.0))
    return report


def test_reports_are_kept_and_bounded(tmp_path: Path):
    text = [selftest.keep(made(number), tmp_path) for number in range(25)][-1]
    assert len(list(tmp_path.glob("selftest-*.txt"))) == len(list(tmp_path.glob("selftest-*.json"))) == selftest.REPORTS
    assert "failed   camera" in text.read_text()
    assert "0 passed, 1 failed, 0 skipped" in text.read_text()
    latest = json.loads(selftest.latest(tmp_path, "short").read_text())
    assert (latest["failed"], latest["entries"][0]["figures"]) == (["camera"], {"brightness": None})
    assert latest["started_at"] == "2026-02-02T02:40:24Z"


def test_a_disk_that_takes_nothing_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="self-test report"):
        selftest.keep(made(0), tmp_path / "file")


def test_the_test_after_a_start_passes_as_soon_as_all_is_well_or_says_what_is_not():
    machine = Machine(watching=False)
    start = StartTest("desk", 0)
    assert start.look(machine.perform(Look()), 100.0, 0) is None
    machine.watching = True
    report = start.look(machine.perform(Look()), 101.0, 1_000_000_000)
    assert report is not None
    assert (report.failed, report.kind, report.finished_at) == ([], "short", "1970-01-01T00:00:01Z")
    assert start.look(machine.perform(Look()), 102.0, 0) is None
    late = StartTest("desk", 0)
    machine.gate = "UNKNOWN"
    assert late.look(machine.perform(Look()), 100.0, 0) is None
    report = late.look(machine.perform(Look()), 100.0 + selftest.START_S, 0)
    assert report is not None
    assert report.failed == ["gate home"]
