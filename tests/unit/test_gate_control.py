"""The gate's thread with a driver of the test's own: the motor is off whatever happens, and in the right order."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import structlog
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import Direction, EndSwitch, Role
from myrvm_hardware.gate import Outcome, Refusal, Snapshot, Verb
from myrvm_hardware.gate_control import GateControl
from myrvm_hardware.settings import ActuatorSettings

LIMIT_S = 30.0
FREE = {Role.DOOR: False, Role.HAND: False, Role.EMERGENCY: False}
SETTINGS = ActuatorSettings(dead_time_s=0.0, reopen_first_s=0.01, reopen_longest_s=0.01, travel_limit_s=5.0)


class Driver:
    """A test's gate that never leaves its place; notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.place = EndSwitch.CLOSED
        self.looks = 0
        self.fails = False

    def open(self) -> None:
        self.told.append("open")

    def drive(self, direction: Direction) -> None:
        self.told.append(direction.name)

    def position(self) -> EndSwitch:
        self.looks += 1
        if self.fails:
            raise DeviceError("cable")
        return self.place

    def close(self) -> None:
        self.told.append("close")


class Fixture:
    def __init__(self) -> None:
        self.driver = Driver()
        self.seen: list[Snapshot] = []
        self._changed = threading.Condition()
        self.control = GateControl(self.driver, SETTINGS, self._on_change, structlog.get_logger())
        self.control.start()
        self.control.sensed(FREE, 0.0)
        self.wait(lambda: bool(self.seen) and self.seen[-1].position == EndSwitch.CLOSED)

    def _on_change(self, snapshot: Snapshot) -> None:
        with self._changed:
            self.seen.append(snapshot)
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, LIMIT_S), self.seen[-3:]

    def move(self) -> None:
        assert self.control.command("a", "test", Verb.ACCEPT) == (Refusal.NONE, "")
        self.wait(lambda: self.seen[-1].motor == Direction.TO_BIN)


@pytest.mark.parametrize("_", range(20))
def test_stopping_switches_the_motor_off_before_the_driver_is_closed(_: int) -> None:
    gate = Fixture()
    gate.move()
    gate.control.stop()
    assert gate.driver.told == ["open", "TO_BIN", "OFF", "close"]
    assert gate.seen[-1].outcome == Outcome.CANCELLED


def test_a_door_stops_the_motor_on_the_thread_that_heard_of_it() -> None:
    gate = Fixture()
    gate.move()
    gate.control.sensed(FREE | {Role.DOOR: True}, 0.0)
    assert gate.driver.told[-1] == "OFF"
    assert gate.seen[-1].outcome == Outcome.INTERLOCK
    gate.control.stop()


def test_a_driver_that_fails_is_closed_and_opened_again() -> None:
    gate = Fixture()
    gate.move()
    gate.driver.fails = True
    gate.wait(lambda: gate.seen[-1].outcome == Outcome.FAILED and gate.seen[-1].fault == "cable")
    gate.driver.fails = False
    gate.wait(lambda: gate.seen[-1].fault == "")
    assert gate.driver.told[:4] == ["open", "TO_BIN", "close", "open"]
    gate.control.stop()
    assert gate.driver.told[-1] == "close"


def test_an_idle_gate_is_not_looked_at() -> None:
    gate = Fixture()
    looks = gate.driver.looks
    for _ in range(50):
        gate.control.sensed(FREE, 0.0)
        gate.control.check()
    gate.control.stop()
    assert gate.driver.looks <= looks + 2  # those that were under way: the homing after opening, the end
