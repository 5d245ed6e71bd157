"""Motor safety, without I/O: stands between whoever wants a motor to run and the motor's lines.

Inputs, wishes and the time come in; `directions` says what every motor's lines must show now, so apply it after each
call. What holds, whoever calls in whatever order (`tests/unit/test_motor_safety.py` proves it at the lines):

- one motor has one direction, and between two directions it rests `dead_time_s`;
- no run is longer than its bound, no `duty_window_s` holds more than `duty_s` of running;
- no motor runs while an interlock is active, unknown or not looked at, or while there is a `problem`;
- an interlock that was active counts as active until it has been clear for `clear_s`, so chatter is one stop.

Time is monotonic, s. The caller locks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from myrvm_hardware.drivers import Direction, Role

SENTENCES = {
    Role.DOOR: "door is open",
    Role.HAND: "hand is in the gate",
    Role.EMERGENCY: "emergency stop is pressed",
    Role.POWER_FAIL: "power fails",
}


@dataclass(frozen=True)
class Limits:
    """What no motor may exceed."""

    run_s: float
    dead_time_s: float
    duty_s: float
    duty_window_s: float
    clear_s: float
    stale_s: float


class HeldError(Exception):
    """No motor may run now; the message is for a person."""


class Interlocks:
    """The inputs that must be clear for a motor to run."""

    def __init__(self, roles: Iterable[Role], clear_s: float, stale_s: float) -> None:
        self.roles = tuple(roles)
        self._clear_s, self._stale_s = clear_s, stale_s
        self._levels: dict[Role, bool | None] = dict.fromkeys(self.roles)
        self._active_s: dict[Role, float] = {}  # when it was seen active last
        self._read_s: float | None = None

    def read(self, levels: Mapping[Role, bool | None], now_s: float) -> None:
        """All inputs as they are now; what is missing is unknown."""
        self._read_s = now_s
        for role in self.roles:
            self.edge(role, levels.get(role), now_s)

    def edge(self, role: Role, active: bool | None, now_s: float) -> None:
        """One input has changed; None: it is unknown from now on."""
        if role not in self._levels:
            return
        if active or self._levels[role]:  # also while it was active until now
            self._active_s[role] = now_s
        self._levels[role] = active

    def lost(self) -> None:
        """Nobody looks any more: every input is unknown."""
        self._levels = dict.fromkeys(self.roles)
        self._read_s = None

    def active(self, role: Role, now_s: float) -> bool | None:
        """Whether it is active or was so a moment ago; None: unknown."""
        level = self._levels[role]
        if level is None or self._stale(now_s):
            return None
        return level or now_s - self._active_s.get(role, float("-inf")) < self._clear_s

    def obstacles(self, now_s: float) -> dict[Role, str]:
        """Why no motor may run, a sentence for each input that is in the way."""
        states = {role: self.active(role, now_s) for role in self.roles}
        return {role: _sentence(role, active) for role, active in states.items() if active is not False}

    def next_s(self, now_s: float) -> float | None:
        """When an input counts as clear, if it stays so; None: nothing is due."""
        due = [self._active_s[role] + self._clear_s for role in self._active_s if self._levels[role] is False]
        return min((at_s for at_s in due if at_s > now_s), default=None)

    def _stale(self, now_s: float) -> bool:
        return self._read_s is None or now_s - self._read_s > self._stale_s


def _sentence(role: Role, active: bool | None) -> str:
    name = role.name.lower()
    return f"{name} is unknown" if active is None else SENTENCES.get(role, f"{name} is active")


@dataclass
class _Motor:
    direction: Direction = Direction.OFF
    last: Direction = Direction.OFF  # OFF: whoever was here before may have run it; either direction rests first
    started_s: float = 0.0
    stopped_s: float = 0.0
    until_s: float = 0.0  # when it must be off
    total_s: float = 0.0


class MotorSafety:
    """See the module. `problem`: why no motor may run whatever the inputs say; empty: none."""

    def __init__(self, motors: Iterable[str], interlocks: Interlocks, limits: Limits) -> None:
        self.interlocks, self.problem = interlocks, "the gate is not open"
        self._limits = limits
        self._motors = {name: _Motor() for name in motors}
        self._runs: dict[str, deque[tuple[float, float]]] = {name: deque() for name in self._motors}

    @property
    def directions(self) -> dict[str, Direction]:
        """What the lines of each motor must show now."""
        return {name: motor.direction for name, motor in self._motors.items()}

    @property
    def running(self) -> bool:
        """Whether any motor runs."""
        return any(motor.direction for motor in self._motors.values())

    def opened(self, now_s: float) -> None:
        """The lines are ours, all motors off."""
        self.problem = ""
        for motor in self._motors.values():
            motor.last, motor.stopped_s = Direction.OFF, now_s

    def failed(self, why: str, now_s: float) -> None:
        """Nothing may run until `opened`."""
        self.problem = why
        self.interlocks.lost()
        self.off(now_s)

    def obstacles(self, now_s: float) -> dict[Role, str]:
        """Why no motor may run, by the input that is in the way; see `problem` too."""
        return self.interlocks.obstacles(now_s)

    def run(self, name: str, direction: Direction, now_s: float, limit_s: float | None = None) -> bool:
        """Run a motor for at most `limit_s`; True: it runs, False: not yet, it has to rest.

        Raises:
            HeldError: an interlock or a problem is in the way.
        """
        self.check(now_s)
        if why := self.problem or ", ".join(self.obstacles(now_s).values()):
            raise HeldError(why)
        motor = self._motors[name]
        if motor.direction == direction:
            return True
        self.stop(name, now_s)
        bound_s = min(self._limits.run_s, self._limits.run_s if limit_s is None else limit_s)
        if direction == Direction.OFF or self._rest_s(name, direction, bound_s, now_s) > 0.0:
            return False
        motor.direction = motor.last = direction
        motor.started_s, motor.until_s = now_s, now_s + bound_s
        return True

    def off(self, now_s: float) -> None:
        """Every motor off."""
        for name in self._motors:
            self.stop(name, now_s)

    def stop(self, name: str, now_s: float) -> None:
        """One motor off."""
        motor = self._motors[name]
        if motor.direction:
            motor.direction, motor.stopped_s = Direction.OFF, now_s
            motor.total_s += now_s - motor.started_s
            self._runs[name].append((motor.started_s, now_s))

    def check(self, now_s: float) -> None:
        """Let time pass: stops what must not run any longer, never starts anything."""
        held = self.running and (bool(self.problem) or bool(self.obstacles(now_s)))
        for name, motor in self._motors.items():
            if held or now_s >= motor.until_s:
                self.stop(name, now_s)

    def next_s(self, now_s: float) -> float | None:
        """When `check` must be called at the latest, if nothing comes in before; None: not at all."""
        bounds = [motor.until_s for motor in self._motors.values() if motor.direction]
        clear_s = self.interlocks.next_s(now_s)
        return min([*bounds, *([] if clear_s is None else [clear_s])], default=None)

    def run_time_s(self, name: str, now_s: float) -> float:
        """For how long a motor has run since this object was made."""
        motor = self._motors[name]
        return motor.total_s + (now_s - motor.started_s if motor.direction else 0.0)

    def started_s(self, name: str) -> float:
        """When the last run of a motor began."""
        return self._motors[name].started_s

    def last_direction(self, name: str) -> Direction:
        """In which direction a motor ran last; OFF: not since the lines are ours."""
        return self._motors[name].last

    def _rest_s(self, name: str, direction: Direction, bound_s: float, now_s: float) -> float:
        """For how long a motor must rest before it may run `bound_s` in `direction`."""
        motor = self._motors[name]
        rest_s = 0.0 if motor.last == direction else motor.stopped_s + self._limits.dead_time_s - now_s
        return max(rest_s, self._cooling_s(name, bound_s, now_s))

    def _cooling_s(self, name: str, bound_s: float, now_s: float) -> float:
        # Old runs leave the window while this one goes on, so it never holds more than what is in now and this run.
        runs, window_s = self._runs[name], self._limits.duty_window_s
        while runs and runs[0][1] <= now_s - window_s:
            runs.popleft()
        used_s = sum(end_s - max(start_s, now_s - window_s) for start_s, end_s in runs)
        excess_s = used_s + bound_s - self._limits.duty_s
        for start_s, end_s in runs:
            if excess_s <= 0.0:
                break
            begin_s = max(start_s, now_s - window_s)
            left_s = begin_s + min(end_s - begin_s, excess_s) + window_s - now_s
            excess_s -= end_s - begin_s
            if excess_s <= 0.0:
                return left_s
        return 0.0
