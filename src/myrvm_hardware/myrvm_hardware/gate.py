"""The gate as a state machine without I/O: commands, sensors, switches and the time come in, the motor's direction out.

A command is a generator that reads as its movement is told: drive, wait, drive back. It goes on once each `tick`. Every
movement is bounded in time, every change of direction rests, a movement that does not arrive backs off and is tried
once more. Whatever ends a command (`_end`) switches the motor off first. Time is monotonic, s.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from myrvm_hardware.drivers import Direction, EndSwitch, Role
from myrvm_hardware.settings import ActuatorSettings

REST_TICK_S = 0.02  # between ticks of a movement whose motor is off
OVERSHOOTS = 3  # how often a movement may pass its switch by and turn round


class Verb(IntEnum):
    """Numbers equal the constants of `myrvm_interfaces/srv/CommandGate`."""

    ACCEPT = 1
    RETURN = 2
    HOME = 3
    STOP = 4


class Refusal(IntEnum):
    """Numbers equal `CommandGate.REFUSED_*`."""

    NONE = 0
    BUSY = 1
    INTERLOCK = 2
    FAULT = 3
    UNKNOWN = 4


class Outcome(IntEnum):
    """Numbers equal `GateState.OUTCOME_*`."""

    NONE = 0
    RUNNING = 1
    DONE = 2
    CANCELLED = 3
    INTERLOCK = 4
    JAMMED = 5
    FAILED = 6


@dataclass(frozen=True)
class Snapshot:
    """The gate and its last command; `fault` and `obstacles` are lines for a person."""

    position: EndSwitch | None
    motor: Direction
    command_id: str
    verb: int
    outcome: Outcome
    cycles: int
    motor_run_time_s: float
    fault: str
    obstacles: tuple[str, ...]


class _Stopped(Exception):  # noqa: N818
    def __init__(self, outcome: Outcome, jam: str = "") -> None:
        super().__init__(jam)
        self.outcome, self.jam = outcome, jam


HAND = "hand is in the gate"
OBSTACLES = {Role.DOOR: "door is open", Role.HAND: HAND, Role.EMERGENCY: "emergency stop is pressed"}


class Gate:
    """`motor` is what the motor must do now: apply it after each call. `problem`: why the driver cannot be used."""

    def __init__(self, settings: ActuatorSettings, interlocks: tuple[Role, ...]) -> None:
        self._settings, self._interlocks = settings, interlocks
        self.motor = Direction.OFF
        self.holder = ""
        self._command_id, self._verb, self._outcome = "", 0, Outcome.NONE
        self.problem, self._jam = "the gate is not open", ""
        self._homing_wanted = False
        self._movement: Generator[None, None, None] | None = None
        self._own = False  # the movement is the gate's own homing, no command: it leaves the last command's outcome
        self._waiting_open = False
        self._position: EndSwitch | None = None
        self._side: EndSwitch | None = None
        self._levels: dict[Role, bool | None] = {}
        self._sensed_s: float | None = None
        self._now_s = 0.0
        self._started_s = self._stopped_s = 0.0
        self._last_direction = Direction.OFF
        self._cycles, self._run_time_s = 0, 0.0

    # What comes in

    def opened(self, now_s: float) -> None:
        """The driver is open: close the gate as soon as that is allowed."""
        self._now_s = now_s
        self.problem, self._homing_wanted = "", True
        self._last_direction, self._stopped_s = Direction.OFF, now_s  # whoever was here before may have moved it

    def failed(self, why: str, now_s: float) -> None:
        """The driver failed."""
        self._now_s = now_s
        self.problem, self._position = why, None
        self._end(Outcome.FAILED)

    def closed(self, now_s: float) -> None:
        """The node lets the gate go."""
        self._now_s = now_s
        self.problem, self._position = "the gate is not open", None
        self._end(Outcome.CANCELLED)
        self._homing_wanted = False

    def sensed(self, levels: Mapping[Role, bool | None], sensed_s: float) -> None:
        """The sensors as they were at `sensed_s`; None is unknown."""
        self._levels, self._sensed_s = dict(levels), sensed_s

    def command(self, command_id: str, holder: str, verb: int, now_s: float) -> tuple[Refusal, str]:
        """Take a command or refuse it; with BUSY comes the holder of the one that runs.

        STOP ends the running command and is not remembered as a command of its own. A repeated `command_id` is taken
        and changes nothing, so that a caller whose answer was lost may ask again.
        """
        self._now_s = now_s
        if verb == Verb.STOP:
            self._end(Outcome.CANCELLED)
            self._homing_wanted = False
            return Refusal.NONE, ""
        if verb not in (Verb.ACCEPT, Verb.RETURN, Verb.HOME):
            return Refusal.UNKNOWN, ""
        if command_id and command_id == self._command_id and verb == self._verb:
            return Refusal.NONE, ""
        if self._movement is not None:
            return Refusal.BUSY, self.holder
        if self.problem or (self._jam and verb != Verb.HOME):
            return Refusal.FAULT, ""
        if self.obstacles():
            return Refusal.INTERLOCK, ""
        self._begin(command_id, holder, Verb(verb))
        return Refusal.NONE, ""

    def tick(self, position: EndSwitch, now_s: float) -> None:
        """The end switches as they are now; goes on with the movement."""
        self._see(position)
        self.check(now_s)
        if self._may_home():
            self._own, self.holder, self._movement = True, "actuator", self._home()
        if self._movement is None:
            return
        try:
            next(self._movement)
        except StopIteration:
            self._jam = ""
            self._end(Outcome.DONE)
        except _Stopped as stopped:
            self._jam = stopped.jam
            self._end(stopped.outcome)

    def check(self, now_s: float) -> None:
        """Only the interlocks: may stop the motor, never starts it."""
        self._now_s = now_s
        obstacles = self.obstacles()
        if self._movement is not None and obstacles and not (self._waiting_open and obstacles == [HAND]):
            self._end(Outcome.INTERLOCK)

    # What comes out

    def obstacles(self) -> list[str]:
        """Why the motor must not run; empty when it may."""
        if self._sensed_s is None:
            return ["sensors are not heard yet"]
        if self._now_s - self._sensed_s > self._settings.interlock_stale_s:
            return [f"sensors are silent for more than {self._settings.interlock_stale_s:g} s"]
        unknown = [f"{role.name.lower()} is unknown" for role in self._interlocks if self._levels.get(role) is None]
        return unknown + [
            OBSTACLES.get(role, f"{role.name.lower()} is active") for role in self._interlocks if self._levels.get(role)
        ]

    def next_tick_s(self) -> float | None:
        """Seconds until the next tick is due; None: not until something comes in."""
        if self._movement is not None or self._may_home():
            return self._settings.poll_period_s if self.motor != Direction.OFF else REST_TICK_S
        return None

    def overdue(self, now_s: float) -> bool:
        """The motor runs longer than any movement may: nobody ticks."""
        return self.motor != Direction.OFF and now_s - self._started_s > self._settings.travel_limit_s + 0.5

    def snapshot(self) -> Snapshot:
        """As it is now."""
        return Snapshot(
            self._position,
            self.motor,
            self._command_id,
            self._verb,
            self._outcome,
            self._cycles,
            self._run_time_s,
            self.problem or self._jam,
            tuple(self.obstacles()),
        )

    # Movements

    def _begin(self, command_id: str, holder: str, verb: Verb) -> None:
        self._command_id, self.holder, self._verb, self._outcome = command_id, holder, verb, Outcome.RUNNING
        self._own = self._homing_wanted = False
        self._movement = {Verb.ACCEPT: self._accept, Verb.RETURN: self._return, Verb.HOME: self._home}[verb]()

    def _accept(self) -> Generator[None, None, None]:
        yield from self._drive(EndSwitch.BIN)
        yield from self._wait_open(self._settings.dwell_s)
        yield from self._drive(EndSwitch.CLOSED)

    def _return(self) -> Generator[None, None, None]:
        yield from self._drive(EndSwitch.CUSTOMER)
        yield from self._wait_open(self._settings.return_open_s)
        yield from self._drive(EndSwitch.CLOSED)

    def _home(self) -> Generator[None, None, None]:
        yield from self._drive(EndSwitch.CLOSED)

    def _drive(self, target: EndSwitch) -> Generator[None, None, None]:
        if not (yield from self._arrive(target)):
            yield from self._back_off(target)
            if not (yield from self._arrive(target)):
                raise _Stopped(Outcome.JAMMED, f"gate jams on its way to {target.name.lower()}: home it")

    def _arrive(self, target: EndSwitch) -> Generator[None, None, bool]:
        for _ in range(1 + OVERSHOOTS):
            direction = self._towards(target)
            if direction == Direction.OFF:
                return True
            yield from self._run(direction, target, self._settings.travel_limit_s)
            if self._position == target:
                self._cycles += 1
                return True
            if self._position != end_of(direction):
                return False  # time is up between two switches
        return False

    def _back_off(self, target: EndSwitch) -> Generator[None, None, None]:
        back = Direction.TO_CUSTOMER if self._last_direction == Direction.TO_BIN else Direction.TO_BIN
        yield from self._run(back, target, self._settings.back_off_s)

    def _run(self, direction: Direction, target: EndSwitch, limit_s: float) -> Generator[None, None, None]:
        """Run the motor until `target`, the end of its way, or the limit."""
        while direction != self._last_direction and self._now_s - self._stopped_s < self._settings.dead_time_s:
            yield
        start_s = self._now_s
        self._start(direction)
        while self._position not in (target, end_of(direction)) and self._now_s - start_s < limit_s:
            yield
        self._stop()

    def _wait_open(self, duration_s: float) -> Generator[None, None, None]:
        # The motor is off: a hand that takes the item out is welcome, and the gate does not close on it.
        self._waiting_open = True
        start_s = self._now_s
        while self._now_s - start_s < duration_s or (
            self.obstacles() and self._now_s - start_s < duration_s + self._settings.hand_limit_s
        ):
            yield
        self._waiting_open = False

    def _towards(self, target: EndSwitch) -> Direction:
        if self._position == target:
            return Direction.OFF
        if target != EndSwitch.CLOSED:
            return Direction.TO_BIN if target == EndSwitch.BIN else Direction.TO_CUSTOMER
        return Direction.TO_BIN if self._side == EndSwitch.CUSTOMER else Direction.TO_CUSTOMER

    def _see(self, position: EndSwitch) -> None:
        """Keep track of the side of CLOSED on which the gate is, for the way home from between two switches."""
        if position in (EndSwitch.BIN, EndSwitch.CUSTOMER):
            self._side = position
        elif self._position == EndSwitch.CLOSED and position == EndSwitch.BETWEEN and self._last_direction:
            self._side = end_of(self._last_direction)
        self._position = position

    def _may_home(self) -> bool:
        return self._homing_wanted and self._movement is None and not self._jam and not self.obstacles()

    # The motor

    def _start(self, direction: Direction) -> None:
        if self.obstacles():
            raise _Stopped(Outcome.INTERLOCK)
        self.motor = self._last_direction = direction
        self._started_s = self._now_s

    def _stop(self) -> None:
        if self.motor != Direction.OFF:
            self._run_time_s += self._now_s - self._started_s
            self._stopped_s = self._now_s
            self.motor = Direction.OFF

    def _end(self, outcome: Outcome) -> None:
        self._stop()
        self._waiting_open = False
        if self._movement is None:
            return
        self._movement, self.holder = None, ""
        if self._own:
            self._homing_wanted = outcome == Outcome.INTERLOCK
        else:
            self._outcome = outcome


def end_of(direction: Direction) -> EndSwitch:
    """The switch where a direction ends."""
    return EndSwitch.BIN if direction == Direction.TO_BIN else EndSwitch.CUSTOMER
