"""Motor safety: its properties at the lines, whatever anybody calls in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from myrvm_hardware.drivers import Direction, Role
from myrvm_hardware.motor_safety import HeldError, Interlocks, Limits, MotorSafety

ROLES: tuple[Role, ...] = (Role.DOOR, Role.HAND, Role.EMERGENCY, Role.POWER_FAIL)
LIMITS = Limits(run_s=1.0, dead_time_s=0.2, duty_s=2.5, duty_window_s=10.0, clear_s=0.05, stale_s=1.0)
CLEAR: dict[Role, bool | None] = dict.fromkeys(ROLES, False)
TINY_S = 1e-6
BIN, CUSTOMER = Direction.TO_BIN, Direction.TO_CUSTOMER


def ready(now_s: float = 100.0) -> MotorSafety:
    """Open, clear, and rested."""
    safety = MotorSafety(("gate", "belt"), Interlocks(ROLES, LIMITS.clear_s, LIMITS.stale_s), LIMITS)
    safety.opened(now_s - LIMITS.dead_time_s)
    safety.interlocks.read(CLEAR, now_s)
    return safety


def test_a_motor_runs_at_most_for_its_bound() -> None:
    safety = ready()
    assert safety.run("gate", BIN, 100.0)
    assert safety.next_s(100.0) == 101.0
    safety.interlocks.read(CLEAR, 100.9)
    safety.check(100.999)
    assert safety.directions["gate"] == BIN
    safety.check(101.0)
    assert not safety.running
    assert safety.run_time_s("gate", 105.0) == pytest.approx(1.0)


def test_a_shorter_bound_is_kept_and_a_longer_one_is_not() -> None:
    safety = ready()
    assert safety.run("gate", BIN, 100.0, 0.3)
    assert safety.run("belt", BIN, 100.0, 99.0)
    safety.check(100.3)
    assert safety.directions == {"gate": Direction.OFF, "belt": BIN}
    assert safety.next_s(100.3) == 101.0


def test_the_other_direction_stops_the_motor_and_rests() -> None:
    safety = ready()
    assert safety.run("gate", BIN, 100.0)
    assert not safety.run("gate", CUSTOMER, 100.1)
    assert safety.directions["gate"] == Direction.OFF
    assert not safety.run("gate", CUSTOMER, 100.299)
    assert safety.run("gate", CUSTOMER, 100.301)


def test_either_direction_rests_after_the_lines_were_opened() -> None:
    safety = ready()
    safety.opened(100.0)
    assert not safety.run("gate", BIN, 100.1)
    assert safety.run("gate", BIN, 100.2)


@pytest.mark.parametrize("role", ROLES)
def test_an_edge_of_an_interlock_stops_every_motor_and_its_chatter_is_one_stop(role: Role) -> None:
    safety = ready()
    safety.run("gate", BIN, 100.0)
    safety.run("belt", CUSTOMER, 100.0)
    safety.interlocks.edge(role, True, 100.1)
    safety.interlocks.edge(role, False, 100.1)  # before anybody could look
    safety.check(100.1)
    assert not safety.running
    with pytest.raises(HeldError):
        safety.run("gate", BIN, 100.14)
    assert safety.next_s(100.14) == pytest.approx(100.15)
    assert safety.run("gate", BIN, 100.151)
    safety.interlocks.edge(role, True, 100.2)
    safety.interlocks.edge(role, False, 100.4)
    with pytest.raises(HeldError):
        safety.run("gate", BIN, 100.44)
    assert safety.run("gate", BIN, 100.451)


@pytest.mark.parametrize(
    ("disturb", "why"),
    [
        (lambda safety: safety.interlocks.read(CLEAR | {Role.DOOR: True}, 100.0), "door is open"),
        (lambda safety: safety.interlocks.read({Role.DOOR: False, Role.HAND: False}, 100.0), "emergency is unknown"),
        (lambda safety: safety.interlocks.edge(Role.HAND, None, 100.0), "hand is unknown"),
        (lambda safety: safety.interlocks.lost(), "door is unknown"),
        (lambda safety: safety.failed("cable", 100.0), "cable"),
        (lambda safety: safety.interlocks.read(CLEAR, 98.9), "door is unknown"),  # too long ago
    ],
)
def test_no_motor_runs_while(disturb: Callable[[MotorSafety], None], why: str) -> None:
    safety = ready()
    safety.run("gate", BIN, 100.0)
    disturb(safety)
    safety.check(100.0)
    assert not safety.running
    with pytest.raises(HeldError, match=why):
        safety.run("gate", BIN, 100.0)


def test_a_role_that_is_no_interlock_is_nothing_to_the_motor() -> None:
    safety = ready()
    safety.interlocks.edge(Role.DROP, True, 100.0)
    assert safety.run("gate", BIN, 100.0)


def test_the_summed_run_time_is_bounded() -> None:
    safety, now_s = ready(), 100.0
    for _ in range(2):
        assert safety.run("gate", BIN, now_s)
        safety.check(now_s + 1.0)
        now_s += 1.0
        safety.interlocks.read(CLEAR, now_s)
    assert not safety.run("gate", BIN, now_s)  # 2 s are used, a whole run would make 3 of 2.5 s
    assert safety.run("gate", BIN, now_s, 0.5)
    safety.off(now_s + 0.5)
    safety.interlocks.read(CLEAR, 110.99)
    assert not safety.run("gate", BIN, 110.99)
    assert safety.run("gate", BIN, 111.01)


class AnyLife(RuleBasedStateMachine):
    """Wishes, edges, unknown inputs, failures and time, in any order; the lines are noted as a scope would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.safety = ready()
        self.levels: dict[Role, bool | None] = dict(CLEAR)
        self.read_s = 100.0
        self.last_active_s: dict[Role, float] = dict.fromkeys(ROLES, 0.0)
        self.lines = dict.fromkeys(self.safety.directions, Direction.OFF)
        self.since_s = dict.fromkeys(self.lines, 0.0)
        self.runs: dict[str, list[tuple[Direction, float, float]]] = {name: [] for name in self.lines}

    def apply(self) -> None:
        for name, direction in self.safety.directions.items():
            if direction != self.lines[name]:
                if self.lines[name]:
                    self.runs[name].append((self.lines[name], self.since_s[name], self.now_s))
                    assert not direction, "turned round without a stop"
                self.lines[name], self.since_s[name] = direction, self.now_s

    @rule(name=st.sampled_from(["gate", "belt"]), direction=st.sampled_from(list(Direction)),
          limit_s=st.sampled_from([None, 0.05, 0.3, 5.0]))  # fmt: skip
    def run_motor(self, name: str, direction: Direction, limit_s: float | None) -> None:
        try:
            runs = self.safety.run(name, direction, self.now_s, limit_s)
            assert runs == (self.safety.directions[name] == direction != Direction.OFF) or direction == Direction.OFF
        except HeldError:
            assert not self.safety.running
        self.apply()

    @rule()
    def off(self) -> None:
        self.safety.off(self.now_s)
        self.apply()

    @rule(role=st.sampled_from(ROLES), level=st.sampled_from([True, False, False, None]))
    def edge(self, role: Role, level: bool | None) -> None:
        if level or self.levels[role]:
            self.last_active_s[role] = self.now_s
        self.levels[role] = level
        self.safety.interlocks.edge(role, level, self.now_s)
        self.safety.check(self.now_s)
        self.apply()

    @rule(missing=st.sets(st.sampled_from(ROLES), max_size=1))
    def look(self, missing: set[Role]) -> None:
        for role in missing:
            self.levels[role] = None
        self.read_s = self.now_s
        self.last_active_s |= {role: self.now_s for role, level in self.levels.items() if level}
        self.safety.interlocks.read(dict(self.levels), self.now_s)
        self.safety.check(self.now_s)
        self.apply()

    @rule()
    def clear(self) -> None:
        for role in ROLES:
            self.edge(role, False)
        self.look(set())
        self.wait(0.06)

    @rule()
    def fail(self) -> None:
        self.safety.failed("cable", self.now_s)
        self.levels = dict.fromkeys(ROLES)
        self.apply()

    @rule()
    def reopen(self) -> None:
        self.safety.opened(self.now_s)
        self.apply()

    @rule(seconds=st.sampled_from([0.3, 2.0, 9.0]))
    def watch(self, seconds: float) -> None:
        """Time passes and somebody looks at the inputs, as the edge thread does."""
        for _ in range(round(seconds / 0.3)):
            self.look(set())
            self.wait(0.3)

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.3, 2.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; whoever uses the module calls `check` when it says so, and when inputs go stale."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            due_s = self.safety.next_s(self.now_s)
            stale_s = self.read_s + LIMITS.stale_s + TINY_S
            stops = [end_s, *([due_s] if due_s else []), *([stale_s] if stale_s > self.now_s else [])]
            self.now_s = max(self.now_s + TINY_S / 10, min(stops))
            self.safety.check(self.now_s)
            self.apply()

    @invariant()
    def nothing_runs_while_anything_is_in_the_way(self) -> None:
        held = (
            bool(self.safety.problem)
            or any(level is not False for level in self.levels.values())
            or self.now_s - self.read_s > LIMITS.stale_s
            or any(self.now_s - at_s < LIMITS.clear_s - TINY_S for at_s in self.last_active_s.values())
        )
        assert not (held and any(self.lines.values()))

    @invariant()
    def runs_are_bounded_rest_between_directions_and_keep_their_duty(self) -> None:
        for name, runs in self.runs.items():
            on = [*runs, *([(self.lines[name], self.since_s[name], self.now_s)] if self.lines[name] else [])]
            for _, start_s, end_s in on:
                assert end_s - start_s <= LIMITS.run_s + TINY_S
            for (way, _, end_s), (next_way, start_s, _) in pairwise(on):
                assert way == next_way or start_s - end_s >= LIMITS.dead_time_s - TINY_S
            for _, _, end_s in on:  # the window is fullest at the end of a run
                begin_s = end_s - LIMITS.duty_window_s
                used_s = sum(
                    min(end, end_s) - max(start, begin_s) for _, start, end in on if begin_s < end and start < end_s
                )
                assert used_s <= LIMITS.duty_s + TINY_S


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = hypothesis_settings(max_examples=100, stateful_step_count=40, deadline=None)
