"""The gate's state machine against a flap on an axis: customer at -1, closed at 0, bin at +1."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from myrvm_hardware.drivers import Direction, EndSwitch, Role
from myrvm_hardware.gate import CURRENT_STALE_S, SWITCHES_FAULT, Gate, Outcome, Refusal, Verb
from myrvm_hardware.motor_safety import Interlocks, Limits, MotorSafety
from myrvm_hardware.settings import GateSettings

TICK_S = 0.01
SETTINGS = GateSettings(
    travel_limit_s=1.0,
    dwell_s=0.3,
    return_open_s=0.5,
    back_off_s=0.2,
    hand_limit_s=2.0,
    current_limit_a=1.0,
    current_time_s=0.2,
)
ROLES = (Role.DOOR, Role.HAND, Role.EMERGENCY)
LIMITS = Limits(run_s=1.0, dead_time_s=0.1, duty_s=30.0, duty_window_s=30.0, clear_s=0.0, stale_s=0.8)
FREE: dict[Role, bool | None] = dict.fromkeys(ROLES, False)
SPEED = {Direction.OFF: 0.0, Direction.TO_BIN: 2.0, Direction.TO_CUSTOMER: -2.0}


class Flap:
    """Gate, flap and clock; notes every run of the motor as (direction, start, end)."""

    def __init__(self, place: float = 0.0) -> None:
        self.safety = MotorSafety(["gate"], Interlocks(ROLES, LIMITS.clear_s, LIMITS.stale_s), LIMITS)
        self.gate = Gate(SETTINGS, self.safety)
        self.place, self.now_s = place, 100.0
        self.stuck: Callable[[float, Direction], bool] = lambda place, direction: False
        self.levels = dict(FREE)
        self.silent = False
        self.runs: list[tuple[Direction, float, float]] = []
        self._running: tuple[Direction, float] | None = None
        self.safety.interlocks.read(self.levels, self.now_s)
        self.open()

    def open(self) -> None:
        self.safety.opened(self.now_s)
        self.gate.opened(self.now_s)

    def fail(self) -> None:
        self.safety.failed("cable", self.now_s)
        self.gate.failed(self.now_s)
        self.note()

    @property
    def switch(self) -> EndSwitch:
        if abs(self.place) <= 0.03:
            return EndSwitch.CLOSED
        if abs(self.place) >= 0.99:
            return EndSwitch.BIN if self.place > 0 else EndSwitch.CUSTOMER
        return EndSwitch.BETWEEN

    def tick(self) -> None:
        self.now_s += TICK_S
        if not self.stuck(self.place, self.gate.motor):
            self.place = max(-1.0, min(1.0, self.place + SPEED[self.gate.motor] * TICK_S))
        if not self.silent:
            self.sense()
        self.gate.tick(self.switch, self.now_s)
        self.note()

    def sense(self) -> None:
        self.safety.interlocks.read(self.levels, self.now_s)
        self.gate.check(self.now_s)
        self.note()

    def note(self) -> None:
        motor = self.gate.motor
        if self._running and self._running[0] != motor:
            self.runs.append((*self._running, self.now_s))
            self._running = None
        if motor != Direction.OFF and self._running is None:
            self._running = (motor, self.now_s)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.tick()

    def until_ended(self, limit_s: float = 30.0) -> Outcome:
        end_s = self.now_s + limit_s
        while self.gate.snapshot().outcome == Outcome.RUNNING:
            assert self.now_s < end_s, self.gate.snapshot()
            self.tick()
        return self.gate.snapshot().outcome

    def command(self, verb: Verb, command_id: str = "a") -> Refusal:
        refusal, _ = self.gate.command(command_id, "deposit", verb, self.now_s)
        self.note()
        return refusal

    @property
    def ways(self) -> list[Direction]:
        return [direction for direction, _, _ in self.runs]


def test_accept_goes_to_the_bin_and_back() -> None:
    flap = Flap()
    flap.run(0.1)
    assert flap.command(Verb.ACCEPT) == Refusal.NONE
    assert flap.gate.snapshot().outcome == Outcome.RUNNING
    assert flap.until_ended() == Outcome.DONE
    assert flap.switch == EndSwitch.CLOSED
    assert flap.ways == [Direction.TO_BIN, Direction.TO_CUSTOMER]
    assert flap.runs[1][1] - flap.runs[0][2] >= SETTINGS.dwell_s
    assert flap.gate.snapshot().cycles == 2
    assert flap.gate.snapshot().motor_run_time_s == pytest.approx(1.0, abs=0.1)


class Emptying(Flap):
    """Has an entry sensor, and a gate that closes once the chamber is empty: the item goes when the flap is open."""

    sees = True

    def open(self) -> None:
        self.gate = Gate(SETTINGS.model_copy(update={"emptied_s": 0.05}), self.safety)
        super().open()

    def tick(self) -> None:
        occupied = not self.runs or self.switch != EndSwitch.BIN
        self.gate.chamber(occupied if self.sees else None, self.now_s)
        super().tick()


@pytest.mark.parametrize(("sees", "open_s"), [(True, 0.05), (False, SETTINGS.dwell_s)])
def test_the_gate_closes_once_the_chamber_is_seen_to_be_empty(sees: bool, open_s: float) -> None:
    flap = Emptying()
    flap.sees = sees
    flap.run(0.1)
    assert flap.command(Verb.ACCEPT) == Refusal.NONE
    assert flap.until_ended() == Outcome.DONE
    assert flap.switch == EndSwitch.CLOSED
    rest_s = max(open_s, LIMITS.dead_time_s)
    assert rest_s <= flap.runs[1][1] - flap.runs[0][2] <= rest_s + 5 * TICK_S


def test_return_goes_to_the_customer_waits_and_closes() -> None:
    flap = Flap()
    flap.command(Verb.RETURN)
    assert flap.until_ended() == Outcome.DONE
    assert flap.ways == [Direction.TO_CUSTOMER, Direction.TO_BIN]
    assert flap.runs[1][1] - flap.runs[0][2] >= SETTINGS.return_open_s
    assert flap.switch == EndSwitch.CLOSED


@pytest.mark.parametrize("place", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_the_gate_is_closed_after_opening_wherever_it_was(place: float) -> None:
    flap = Flap(place)
    flap.run(8.0)
    snapshot = flap.gate.snapshot()
    assert (flap.switch, snapshot.motor, snapshot.fault) == (EndSwitch.CLOSED, Direction.OFF, "")
    assert (snapshot.command_id, snapshot.outcome) == ("", Outcome.NONE)  # its own homing is no command


class NarrowSwitch(Flap):
    """Its CLOSED switch is not seen on the first two passes."""

    @property
    def switch(self) -> EndSwitch:
        seen = super().switch
        return EndSwitch.BETWEEN if seen == EndSwitch.CLOSED and len(self.runs) < 2 else seen


def test_a_switch_that_is_passed_by_is_found_from_the_other_side() -> None:
    flap = NarrowSwitch(0.5)
    flap.run(8.0)
    assert abs(flap.place) <= 0.03
    assert flap.ways == [Direction.TO_CUSTOMER, Direction.TO_BIN, Direction.TO_CUSTOMER]
    assert flap.gate.snapshot().fault == ""


@pytest.mark.parametrize(("verb", "back"), [(Verb.ACCEPT, Direction.TO_CUSTOMER), (Verb.RETURN, Direction.TO_BIN)])
def test_a_stopped_gate_knows_its_way_home(verb: Verb, back: Direction) -> None:
    flap = Flap()
    flap.run(0.2)
    flap.command(verb)
    flap.run(0.3)
    flap.command(Verb.STOP)
    flap.command(Verb.HOME, "b")
    assert flap.until_ended() == Outcome.DONE
    assert flap.ways[1:] == [back]


def test_the_motor_rests_after_the_driver_was_opened() -> None:
    flap = Flap(0.5)
    flap.run(2.0)
    assert flap.runs[0][1] - 100.0 >= LIMITS.dead_time_s


def test_a_jam_backs_off_retries_once_and_then_only_home_is_taken() -> None:
    flap = Flap()
    flap.stuck = lambda place, direction: direction == Direction.TO_BIN and place >= 0.5
    flap.command(Verb.ACCEPT)
    assert flap.until_ended() == Outcome.JAMMED
    assert flap.ways == [Direction.TO_BIN, Direction.TO_CUSTOMER, Direction.TO_BIN]
    durations_s = [end_s - start_s for _, start_s, end_s in flap.runs]
    limits_s = [SETTINGS.travel_limit_s, SETTINGS.back_off_s, SETTINGS.travel_limit_s]
    assert durations_s == pytest.approx(limits_s, abs=2 * TICK_S)
    assert flap.gate.snapshot().fault == "gate jams on its way to bin: home it"
    assert flap.command(Verb.ACCEPT, "b") == Refusal.FAULT
    assert flap.command(Verb.RETURN, "c") == Refusal.FAULT
    assert flap.gate.snapshot().command_id == "a"
    assert flap.command(Verb.HOME, "d") == Refusal.NONE
    assert flap.until_ended() == Outcome.DONE
    assert flap.gate.snapshot().fault == ""
    assert flap.command(Verb.RETURN, "e") == Refusal.NONE


def test_a_jam_that_gives_way_to_the_retry_is_none() -> None:
    flap = Flap()
    flap.stuck = lambda place, direction: place >= 0.5 and len(flap.runs) < 1
    flap.command(Verb.ACCEPT)
    assert flap.until_ended() == Outcome.DONE


@pytest.mark.parametrize("role", ROLES)
def test_an_interlock_stops_the_motor_before_the_next_tick(role: Role) -> None:
    flap = Flap()
    flap.command(Verb.ACCEPT)
    flap.run(0.3)
    assert flap.gate.motor == Direction.TO_BIN
    flap.levels[role] = True
    flap.sense()
    assert (flap.gate.motor, flap.gate.snapshot().outcome) == (Direction.OFF, Outcome.INTERLOCK)
    assert flap.command(Verb.HOME, "b") == Refusal.INTERLOCK
    flap.levels[role] = False
    flap.sense()
    assert flap.command(Verb.HOME, "c") == Refusal.NONE
    assert flap.until_ended() == Outcome.DONE


@pytest.mark.parametrize("level", [None, "missing"])
def test_an_unknown_sensor_holds_the_gate(level: str | None) -> None:
    flap = Flap()
    if level is None:
        flap.levels[Role.DOOR] = None
    else:
        del flap.levels[Role.DOOR]
    flap.sense()
    assert flap.command(Verb.ACCEPT) == Refusal.INTERLOCK
    assert flap.gate.snapshot().obstacles == ("door is unknown",)


def test_silent_sensors_stop_the_motor() -> None:
    flap = Flap()
    flap.stuck = lambda place, direction: True
    flap.command(Verb.ACCEPT)
    flap.silent = True
    assert flap.until_ended() == Outcome.INTERLOCK
    assert flap.now_s - 100.0 == pytest.approx(LIMITS.stale_s, abs=2 * TICK_S)


def test_the_open_gate_waits_for_a_hand_to_go() -> None:
    flap = Flap()
    flap.command(Verb.RETURN)
    while not flap.runs:
        flap.tick()
    flap.levels[Role.HAND] = True
    flap.run(1.5)
    assert (flap.gate.motor, flap.gate.snapshot().outcome) == (Direction.OFF, Outcome.RUNNING)
    flap.levels[Role.HAND] = False
    assert flap.until_ended() == Outcome.DONE


@pytest.mark.parametrize("role", [Role.DOOR, Role.EMERGENCY])
def test_anything_else_than_a_hand_ends_the_wait_at_once(role: Role) -> None:
    flap = Flap()
    flap.command(Verb.RETURN)
    while not flap.runs:
        flap.tick()
    flap.levels[Role.HAND] = flap.levels[role] = True
    flap.sense()
    assert flap.gate.snapshot().outcome == Outcome.INTERLOCK


def test_a_hand_that_stays_ends_the_command() -> None:
    flap = Flap()
    flap.command(Verb.RETURN)
    while not flap.runs:
        flap.tick()
    flap.levels[Role.HAND] = True
    assert flap.until_ended() == Outcome.INTERLOCK
    assert len(flap.runs) == 1


def test_one_command_at_a_time() -> None:
    flap = Flap()
    flap.command(Verb.ACCEPT)
    assert flap.gate.command("b", "technician", Verb.HOME, flap.now_s) == (Refusal.BUSY, "deposit")
    assert flap.gate.command("a", "deposit", Verb.ACCEPT, flap.now_s) == (Refusal.NONE, "")
    flap.until_ended()
    assert flap.command(Verb.ACCEPT) == Refusal.NONE  # asked again: taken, and not done twice
    assert flap.gate.snapshot().outcome == Outcome.DONE


def test_stop_is_always_taken_and_leaves_the_stopped_command_on_record() -> None:
    flap = Flap()
    flap.command(Verb.ACCEPT)
    flap.run(0.3)
    assert flap.command(Verb.STOP, "b") == Refusal.NONE
    snapshot = flap.gate.snapshot()
    assert (snapshot.motor, snapshot.command_id, snapshot.outcome) == (Direction.OFF, "a", Outcome.CANCELLED)
    flap.run(5.0)
    assert len(flap.runs) == 1  # nothing moves by itself after a stop


def test_a_failed_driver_ends_the_command_and_is_homed_when_it_is_back() -> None:
    flap = Flap()
    flap.command(Verb.ACCEPT)
    flap.run(0.3)
    flap.fail()
    assert (flap.gate.motor, flap.gate.snapshot().outcome) == (Direction.OFF, Outcome.FAILED)
    assert flap.command(Verb.HOME, "b") == Refusal.FAULT
    flap.open()
    flap.run(4.0)
    snapshot = flap.gate.snapshot()
    assert (flap.switch, snapshot.fault) == (EndSwitch.CLOSED, "")
    assert (snapshot.command_id, snapshot.outcome) == ("a", Outcome.FAILED)


def test_open_stays_open_and_close_closes() -> None:
    flap = Flap()
    assert flap.command(Verb.OPEN) == Refusal.NONE
    assert flap.until_ended() == Outcome.DONE
    flap.run(5.0)
    assert (flap.switch, flap.gate.motor, flap.gate.is_closed) == (EndSwitch.CUSTOMER, Direction.OFF, False)
    assert flap.command(Verb.CLOSE, "b") == Refusal.NONE
    assert flap.until_ended() == Outcome.DONE
    assert flap.gate.is_closed


def test_too_much_current_is_a_jam_long_before_the_time_is_up() -> None:
    flap = Flap()
    flap.stuck = lambda place, direction: direction == Direction.TO_BIN and place >= 0.5
    flap.command(Verb.ACCEPT)
    while flap.gate.snapshot().outcome == Outcome.RUNNING:
        stalls = flap.gate.motor == Direction.TO_BIN and flap.place >= 0.5
        flap.gate.measured(2.4 if stalls else 0.4, flap.now_s)
        flap.tick()
    snapshot = flap.gate.snapshot()
    assert (snapshot.outcome, snapshot.jams) == (Outcome.JAMMED, 2)
    there_s = 0.25 + SETTINGS.current_time_s
    assert next(end_s - start_s for _, start_s, end_s in flap.runs) == pytest.approx(there_s, abs=4 * TICK_S)


def test_a_peak_or_an_old_measurement_is_no_jam() -> None:
    flap = Flap()
    flap.command(Verb.OPEN)
    flap.gate.measured(2.4, flap.now_s)
    flap.run(0.1)
    flap.gate.measured(0.4, flap.now_s)
    assert flap.until_ended() == Outcome.DONE
    flap.gate.measured(2.4, flap.now_s - CURRENT_STALE_S - 1.0)
    flap.command(Verb.CLOSE, "b")
    assert flap.until_ended() == Outcome.DONE
    assert flap.gate.snapshot().jams == 0


def test_end_switches_that_contradict_each_other_are_a_fault_until_they_do_not() -> None:
    flap = Flap()
    flap.command(Verb.ACCEPT)
    flap.run(0.3)
    flap.gate.tick(EndSwitch.IMPOSSIBLE, flap.now_s)
    flap.note()
    snapshot = flap.gate.snapshot()
    assert (snapshot.motor, snapshot.outcome, snapshot.fault) == (Direction.OFF, Outcome.FAILED, SWITCHES_FAULT)
    assert flap.command(Verb.HOME, "b") == Refusal.FAULT
    flap.run(3.0)
    assert (flap.switch, flap.gate.snapshot().fault) == (EndSwitch.CLOSED, "")


def test_a_motor_that_turns_the_wrong_way_is_a_fault() -> None:
    flap = Flap()
    flap.run(0.2)
    flap.command(Verb.ACCEPT)
    while flap.gate.snapshot().outcome == Outcome.RUNNING:
        flap.place -= 4 * TICK_S if flap.gate.motor else 0.0  # wires swapped
        flap.tick()
    assert flap.gate.snapshot().outcome == Outcome.FAILED
    assert flap.gate.snapshot().fault == "gate reached customer on its way to bin: check its wiring"


def test_a_motor_that_somebody_else_has_switched_off_for_an_interlock() -> None:
    flap = Flap()
    flap.command(Verb.ACCEPT)
    flap.run(0.3)
    flap.gate.interrupted(flap.now_s)
    assert (flap.gate.motor, flap.gate.snapshot().outcome) == (Direction.OFF, Outcome.INTERLOCK)


@pytest.mark.parametrize("verb", [0, 7, 255])
def test_an_unknown_verb_is_refused(verb: int) -> None:
    assert Flap().gate.command("a", "deposit", verb, 100.0) == (Refusal.UNKNOWN, "")


class AnyLife(RuleBasedStateMachine):
    """Commands, hands, jams, silence and failures in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.flap = Flap()
        self.number = 0
        self.open = True

    @rule(verb=st.sampled_from(list(Verb)))
    def command(self, verb: Verb) -> None:
        self.number += 1
        before = self.flap.gate.snapshot()
        busy = self.flap.gate.holder != ""
        refusal = self.flap.command(verb, str(self.number))
        if verb == Verb.STOP:
            assert refusal == Refusal.NONE
            assert self.flap.gate.motor == Direction.OFF
        elif busy:
            assert refusal == Refusal.BUSY
        elif not self.open:
            assert refusal == Refusal.FAULT
        if refusal != Refusal.NONE:
            assert self.flap.gate.snapshot() == before

    @rule(role=st.sampled_from(ROLES), level=st.sampled_from([True, False, None]))
    def sense(self, role: Role, level: bool | None) -> None:
        self.flap.levels[role] = level
        if not self.flap.silent:
            self.flap.sense()

    @rule(silent=st.booleans())
    def silence(self, silent: bool) -> None:
        self.flap.silent = silent

    @rule(place=st.floats(-1.2, 1.2), way=st.sampled_from([Direction.TO_BIN, Direction.TO_CUSTOMER]))
    def stick(self, place: float, way: Direction) -> None:
        self.flap.stuck = lambda now, direction: direction == way and abs(now - place) < 0.05

    @precondition(lambda self: self.open)
    @rule(seconds=st.sampled_from([0.01, 0.05, 0.3, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.flap.run(seconds)

    @precondition(lambda self: self.open)
    @rule()
    def fail(self) -> None:
        self.open = False
        self.flap.fail()

    @precondition(lambda self: not self.open)
    @rule()
    def reopen(self) -> None:
        self.open = True
        self.flap.open()

    @precondition(lambda self: self.open)
    @rule()
    def heal(self) -> None:
        """Whatever happened: free, unstuck and sent home, the gate closes."""
        self.flap.stuck = lambda place, direction: False
        self.flap.levels, self.flap.silent = dict(FREE), False
        self.flap.run(12.0)
        if self.flap.switch != EndSwitch.CLOSED:
            self.number += 1
            assert self.flap.command(Verb.HOME, str(self.number)) == Refusal.NONE
            assert self.flap.until_ended() == Outcome.DONE
        assert self.flap.switch == EndSwitch.CLOSED
        assert self.flap.gate.motor == Direction.OFF

    @invariant()
    def motor_is_off_whenever_it_must_be(self) -> None:
        gate = self.flap.gate
        if gate.motor != Direction.OFF:
            assert self.open
            assert gate.snapshot().obstacles == ()
            assert gate.holder != ""

    @invariant()
    def every_run_is_bounded_and_every_reversal_rests(self) -> None:
        for _, start_s, end_s in self.flap.runs:
            assert end_s - start_s <= SETTINGS.travel_limit_s + 2 * TICK_S
        for (way, _, end_s), (next_way, start_s, _) in zip(self.flap.runs, self.flap.runs[1:], strict=False):
            assert way == next_way or start_s - end_s >= LIMITS.dead_time_s - TICK_S


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
