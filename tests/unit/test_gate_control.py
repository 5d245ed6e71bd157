"""The gates' threads with a driver of the test's own: the motor is off whatever happens, and in the right order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping

import pytest
import structlog
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import Direction, Edge, EndSwitch, Role
from myrvm_hardware.gate import Outcome, Refusal, Snapshot, Verb
from myrvm_hardware.gate_control import GateControl
from myrvm_hardware.settings import ActuatorSettings, SecondGateSettings

LIMIT_S = 30.0
ROLES: tuple[Role, ...] = (Role.DOOR, Role.HAND, Role.EMERGENCY)
SETTINGS = ActuatorSettings(
    dead_time_s=0.0,
    interlock_clear_s=0.0,
    reopen_first_s=0.01,
    reopen_longest_s=0.01,
    travel_limit_s=5.0,
    dwell_s=1.0,
    belt_line="17",
    second_gate=SecondGateSettings(name="upper", travel_limit_s=5.0),
)


class Driver:
    """A test's gates that never leave their places; notes what it is told, `off` apart from `drive`."""

    interlocks: tuple[Role, ...] = ROLES

    def __init__(self) -> None:
        self.told: list[str] = []
        self.offs = 0
        self.places = {"gate": EndSwitch.CLOSED, "upper": EndSwitch.CLOSED}
        self.looks = 0
        self.fails = self.guard_is_dead = self.blind = False
        self.kept = True
        self.active: set[Role] = set()
        self.edges: queue.Queue[Edge] = queue.Queue()

    def open(self) -> None:
        self.told.append("open")

    def drive(self, directions: Mapping[str, Direction]) -> None:
        assert sum(map(bool, directions.values())) < 2
        self.told.append(", ".join(f"{gate} {way.name}" for gate, way in directions.items() if way) or "OFF")

    def keep(self) -> bool:
        return self.kept

    def check(self) -> None:
        if self.guard_is_dead:
            raise DeviceError("guard is dead")

    def off(self) -> None:
        self.offs += 1

    def positions(self) -> dict[str, EndSwitch]:
        self.looks += 1
        if self.fails:
            raise DeviceError("cable")
        return dict(self.places)

    def levels(self) -> dict[Role, bool]:
        return {role: role in self.active for role in ROLES}

    def read_edges(self, timeout_s: float) -> tuple[list[Edge], int]:
        if self.blind:
            raise DeviceError("blind")
        try:
            return [self.edges.get(timeout=timeout_s)], 0
        except queue.Empty:
            return [], 0

    def close(self) -> None:
        self.told.append("close")


class Fixture:
    def __init__(self) -> None:
        self.driver = Driver()
        self.seen: list[Snapshot] = []
        self.upper: list[Snapshot] = []
        self._changed = threading.Condition()
        log = structlog.get_logger()
        self.control = GateControl(self.driver, SETTINGS, self._on_change, log, self._on_interlocks)
        self.control.start()
        self.wait(lambda: bool(self.seen) and self.seen[-1].position == EndSwitch.CLOSED)
        self.wait(lambda: self.seen[-1].obstacles == () and self.control.interlocks[Role.DOOR].active is False)

    def _on_change(self, snapshot: Snapshot) -> None:
        with self._changed:
            (self.seen if snapshot.gate == "gate" else self.upper).append(snapshot)
            self._changed.notify_all()

    def _on_interlocks(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, LIMIT_S), self.seen[-3:]

    def command(self, verb: Verb, command_id: str = "a", gate: str = "") -> tuple[Refusal, str]:
        return self.control.command(gate, command_id, "test", verb)

    def move(self) -> None:
        assert self.command(Verb.ACCEPT) == (Refusal.NONE, "")
        self.wait(lambda: self.seen[-1].motor == Direction.TO_BIN)

    def arrive(self, place: EndSwitch) -> None:
        self.driver.places["gate"] = place


@pytest.mark.parametrize("_", range(5))
def test_stopping_switches_the_motor_off_before_the_driver_is_closed(_: int) -> None:
    gate = Fixture()
    gate.move()
    gate.control.stop()
    assert gate.driver.told == ["open", "gate TO_BIN", "OFF", "close"]
    assert gate.seen[-1].outcome == Outcome.CANCELLED
    assert {level.active for level in gate.control.interlocks.values()} == {None}


def test_an_edge_switches_off_and_ends_the_command() -> None:
    gate = Fixture()
    gate.move()
    offs = gate.driver.offs
    gate.driver.active.add(Role.DOOR)
    gate.driver.edges.put(Edge(Role.DOOR, True, 123))
    gate.wait(lambda: gate.seen[-1].outcome == Outcome.INTERLOCK)
    assert gate.driver.offs > offs
    assert gate.driver.told[-1] == "OFF"
    assert gate.control.interlocks[Role.DOOR].active
    gate.control.stop()


def test_a_level_without_an_edge_is_seen_too() -> None:
    gate = Fixture()
    gate.move()
    gate.driver.active.add(Role.EMERGENCY)
    gate.wait(lambda: gate.seen[-1].obstacles == ("emergency stop is pressed",))
    assert gate.seen[-1].outcome == Outcome.INTERLOCK
    gate.control.stop()


def test_an_edge_switches_off_while_somebody_holds_the_lock() -> None:
    gate = Fixture()
    gate.move()
    switched_off = threading.Event()
    gate.driver.off = switched_off.set  # type: ignore[method-assign]
    with gate.control._wake:  # pyright: ignore[reportPrivateUsage]
        gate.driver.edges.put(Edge(Role.HAND, True, 1))
        assert switched_off.wait(LIMIT_S)
    gate.control.stop()


def test_what_the_guard_has_switched_off_is_an_interlock() -> None:
    gate = Fixture()
    gate.move()
    gate.driver.kept = False
    gate.wait(lambda: gate.seen[-1].outcome == Outcome.INTERLOCK)
    assert gate.driver.told[-1] == "OFF"
    gate.control.stop()


@pytest.mark.parametrize(
    ("trouble", "fault"), [("fails", "cable"), ("blind", "blind"), ("guard_is_dead", "guard is dead")]
)
def test_a_driver_that_fails_is_closed_and_opened_again(trouble: str, fault: str) -> None:
    gate = Fixture()
    gate.move()
    offs = gate.driver.offs
    setattr(gate.driver, trouble, True)
    gate.control.check()
    gate.wait(lambda: gate.seen[-1].outcome == Outcome.FAILED and gate.seen[-1].fault == fault)
    setattr(gate.driver, trouble, False)
    gate.wait(lambda: gate.seen[-1].fault == "")
    told = [entry for entry in gate.driver.told if entry != "OFF"]
    assert told[:4] == ["open", "gate TO_BIN", "close", "open"]
    assert gate.driver.offs > offs
    gate.control.stop()
    assert gate.driver.told[-1] == "close"


def test_only_one_gate_moves_or_is_open() -> None:
    gate = Fixture()
    assert gate.command(Verb.OPEN, "a") == (Refusal.NONE, "")
    gate.wait(lambda: gate.seen[-1].motor == Direction.TO_CUSTOMER)
    assert gate.command(Verb.ACCEPT, "b", "upper") == (Refusal.BUSY, "test")
    gate.arrive(EndSwitch.CUSTOMER)
    gate.wait(lambda: gate.seen[-1].outcome == Outcome.DONE)
    assert gate.command(Verb.ACCEPT, "b", "upper") == (Refusal.BUSY, "gate gate, which is not closed")
    assert gate.command(Verb.CLOSE, "c") == (Refusal.NONE, "")
    gate.arrive(EndSwitch.CLOSED)
    gate.wait(lambda: gate.seen[-1].command_id == "c" and gate.seen[-1].outcome == Outcome.DONE)
    assert gate.command(Verb.ACCEPT, "b", "upper") == (Refusal.NONE, "")
    gate.wait(lambda: gate.upper[-1].motor == Direction.TO_BIN)
    assert gate.command(Verb.STOP, "d") == (Refusal.NONE, "")
    assert gate.upper[-1].outcome == Outcome.CANCELLED
    assert gate.command(Verb.HOME, "e", "cellar") == (Refusal.UNKNOWN, "")
    gate.control.stop()


def test_a_belt_runs_while_the_gate_is_open_to_the_bin_and_a_hand_stops_it() -> None:
    gate = Fixture()
    gate.move()
    gate.arrive(EndSwitch.BIN)
    gate.wait(lambda: gate.driver.told[-1] == "belt TO_BIN")
    gate.driver.active.add(Role.HAND)
    gate.driver.edges.put(Edge(Role.HAND, True, 1))
    gate.wait(lambda: gate.driver.told[-1] == "OFF")
    assert gate.seen[-1].outcome == Outcome.RUNNING
    gate.driver.active.clear()
    gate.arrive(EndSwitch.CLOSED)  # so that the way back is none
    gate.wait(lambda: gate.seen[-1].outcome == Outcome.DONE)
    gate.control.stop()


def test_an_idle_gate_is_not_looked_at() -> None:
    gate = Fixture()
    looks = gate.driver.looks
    for _ in range(50):
        gate.control.check()
    gate.control.stop()
    assert gate.driver.looks <= looks + 3  # those that were under way: the homing after opening, the end
