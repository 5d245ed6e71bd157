"""A gate as a state machine without I/O: commands, end switches and the time come in, wishes to `MotorSafety` go out.

A command is a generator that reads as its movement is told: drive, wait, drive back. It goes on once each `tick`. A
movement that does not arrive backs off and is tried once more. Whatever ends a command (`_end`) switches the motor off
first. That no motor runs when it must not is not this module's affair: see `motor_safety`. Time is monotonic, s.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import IntEnum

from myrvm_hardware.drivers import BELT, Direction, EndSwitch, Role
from myrvm_hardware.motor_safety import HeldError, MotorSafety
from myrvm_hardware.settings import GateSettings

REST_TICK_S = 0.02  # between ticks of a movement whose motor is off
IMPOSSIBLE_TICK_S = 0.5  # between looks at end switches that contradict each other
CURRENT_STALE_S = 1.0  # an older measurement says nothing
OVERSHOOTS = 3  # how often a movement may pass its switch by and turn round
SWITCHES_FAULT = "more than one end switch is closed: check their wiring"


class Verb(IntEnum):
    """Numbers equal the constants of `myrvm_interfaces/srv/CommandGate`."""

    ACCEPT = 1
    RETURN = 2
    HOME = 3
    STOP = 4
    OPEN = 5
    CLOSE = 6


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
    """A gate and its last command; `fault` and `obstacles` are lines for a person."""

    gate: str
    position: EndSwitch | None
    motor: Direction
    command_id: str
    verb: int
    outcome: Outcome
    cycles: int
    jams: int
    motor_run_time_s: float
    fault: str
    obstacles: tuple[str, ...]


class _Stopped(Exception):  # noqa: N818
    def __init__(self, outcome: Outcome, fault: str = "") -> None:
        super().__init__(fault)
        self.outcome, self.fault = outcome, fault


class Gate:
    """One gate. `safety.directions` says what its motor must do now: apply it after each call."""

    def __init__(self, settings: GateSettings, safety: MotorSafety) -> None:
        self.name, self._settings, self._safety = settings.name, settings, safety
        self.holder = ""
        self._command_id, self._verb, self._outcome = "", 0, Outcome.NONE
        self._fault = ""
        self._homing_wanted = False
        self._movement: Generator[None, None, None] | None = None
        self._own = False  # the movement is the gate's own homing, no command: it leaves the last command's outcome
        self._waiting_open = False
        self._position: EndSwitch | None = None
        self._side: EndSwitch | None = None
        self._now_s = 0.0
        self._cycles = self._jams = 0
        self._run_time_s = 0.0
        self._occupied = False
        self._emptied_s = float("inf")  # when the chamber was seen to become empty, during this command
        self._measured_s = self._over_s = float("-inf")  # last measurement of the current; since when it is too high

    # What comes in

    def opened(self, now_s: float) -> None:
        """The driver is open: close the gate as soon as that is allowed."""
        self._now_s, self._homing_wanted = now_s, True

    def failed(self, now_s: float) -> None:
        """The driver failed; `safety` knows why."""
        self._now_s, self._position = now_s, None
        self._end(Outcome.FAILED)

    def closed(self, now_s: float) -> None:
        """The node lets the gate go."""
        self._now_s, self._position = now_s, None
        self._end(Outcome.CANCELLED)
        self._homing_wanted = False

    def interrupted(self, now_s: float) -> None:
        """Somebody else has switched the motor off for an interlock."""
        self._now_s = now_s
        self._end(Outcome.INTERLOCK)

    def measured(self, current_a: float, now_s: float) -> None:
        """The current through the motor."""
        over = bool(self._settings.current_limit_a) and current_a > self._settings.current_limit_a
        was_over = self._over_s > float("-inf") and now_s - self._measured_s <= CURRENT_STALE_S
        self._over_s = (self._over_s if was_over else now_s) if over else float("-inf")
        self._measured_s = now_s

    def chamber(self, occupied: bool | None, now_s: float) -> None:
        """What the entry sensor tells of the chamber; None: unknown."""
        if self._occupied and occupied is False:
            self._emptied_s = now_s
        elif occupied:
            self._emptied_s = float("inf")
        self._occupied = bool(occupied)

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
        if verb not in tuple(Verb):
            return Refusal.UNKNOWN, ""
        if self.knows(command_id, verb):
            return Refusal.NONE, ""
        if self._movement is not None:
            return Refusal.BUSY, self.holder
        if self._safety.problem or (self._fault and verb != Verb.HOME) or self._position == EndSwitch.IMPOSSIBLE:
            return Refusal.FAULT, ""
        if self._safety.obstacles(now_s):
            return Refusal.INTERLOCK, ""
        self._begin(command_id, holder, Verb(verb))
        return Refusal.NONE, ""

    def knows(self, command_id: str, verb: int) -> bool:
        """Whether this is the last command, asked again."""
        return bool(command_id) and command_id == self._command_id and verb == self._verb

    def tick(self, position: EndSwitch, now_s: float, may_home: bool = True) -> None:
        """The end switches as they are now; goes on with the movement. `may_home`: no other gate is in the way."""
        self.check(now_s)
        self._see(position)
        if may_home and self._homing_wanted and self.may_move:
            self._own, self.holder, self._movement = True, "actuator", self._home()
        if self._movement is None:
            return
        try:
            next(self._movement)
        except StopIteration:
            self._fault = ""
            self._end(Outcome.DONE)
        except HeldError:
            self._end(Outcome.INTERLOCK)
        except _Stopped as stopped:
            self._fault = stopped.fault
            self._end(stopped.outcome)

    def check(self, now_s: float) -> None:
        """Only the safety: may stop the motor, never starts it."""
        self._now_s = now_s
        self._safety.check(now_s)
        obstacles = self._safety.obstacles(now_s)
        if self._movement is not None and obstacles and not (self._waiting_open and set(obstacles) == {Role.HAND}):
            self._end(Outcome.INTERLOCK)

    # What comes out

    @property
    def motor(self) -> Direction:
        """What the motor must do now."""
        return self._safety.directions[self.name]

    @property
    def is_closed(self) -> bool:
        """Whether it is known to be closed and at rest."""
        return self._position == EndSwitch.CLOSED and self._movement is None

    @property
    def may_move(self) -> bool:
        """Whether a movement of its own may begin."""
        idle = self._movement is None and not self._fault and self._position != EndSwitch.IMPOSSIBLE
        return idle and not self._safety.problem and not self._safety.obstacles(self._now_s)

    def next_tick_s(self) -> float | None:
        """Seconds until the next tick is due while the motor is off; None: not until something comes in."""
        if self._movement is not None or (self._homing_wanted and self.may_move):
            return REST_TICK_S
        return IMPOSSIBLE_TICK_S if self._position == EndSwitch.IMPOSSIBLE else None

    def snapshot(self) -> Snapshot:
        """As it is now."""
        impossible = SWITCHES_FAULT if self._position == EndSwitch.IMPOSSIBLE else ""
        return Snapshot(
            self.name,
            self._position,
            self.motor,
            self._command_id,
            self._verb,
            self._outcome,
            self._cycles,
            self._jams,
            self._run_time_s,
            self._safety.problem or self._fault or impossible,
            tuple(self._safety.obstacles(self._now_s).values()),
        )

    # Movements

    def _begin(self, command_id: str, holder: str, verb: Verb) -> None:
        self._command_id, self.holder, self._verb, self._outcome = command_id, holder, verb, Outcome.RUNNING
        self._own = self._homing_wanted = False
        self._emptied_s = float("inf")
        movements = {Verb.ACCEPT: self._accept, Verb.RETURN: self._return, Verb.OPEN: self._open}
        self._movement = movements.get(verb, self._home)()

    def _accept(self) -> Generator[None, None, None]:
        yield from self._drive(EndSwitch.BIN)
        belt = BELT in self._safety.directions
        yield from self._wait_open(self._settings.dwell_s, 0.0 if belt else self._settings.emptied_s, belt)
        yield from self._drive(EndSwitch.CLOSED)

    def _return(self) -> Generator[None, None, None]:
        yield from self._drive(EndSwitch.CUSTOMER)
        yield from self._wait_open(self._settings.return_open_s)
        yield from self._drive(EndSwitch.CLOSED)

    def _open(self) -> Generator[None, None, None]:
        yield from self._drive(EndSwitch.CUSTOMER)

    def _home(self) -> Generator[None, None, None]:
        yield from self._drive(EndSwitch.CLOSED)

    def _drive(self, target: EndSwitch) -> Generator[None, None, None]:
        if (yield from self._arrive(target)):
            return
        self._jams += 1
        yield from self._back_off(target)
        if not (yield from self._arrive(target)):
            self._jams += 1
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
                return False  # time is up between two switches, or too much current
        return False

    def _back_off(self, target: EndSwitch) -> Generator[None, None, None]:
        yield from self._run(_other(self._safety.last_direction(self.name)), target, self._settings.back_off_s)

    def _run(self, direction: Direction, target: EndSwitch, limit_s: float) -> Generator[None, None, None]:
        """Run the motor until `target`, the end of its way, or the limit."""
        ahead, behind, begun = end_of(direction), end_of(_other(direction)), self._position
        if limit_s <= 0.0:
            return
        while not self._safety.run(self.name, direction, self._now_s, limit_s):
            yield
        while self._position not in (target, ahead) and self.motor == direction and not self._overloaded():
            yield
            if self._position == behind and begun not in (behind, EndSwitch.BETWEEN, None):
                way = f"gate reached {behind.name.lower()} on its way to {ahead.name.lower()}"
                raise _Stopped(Outcome.FAILED, f"{way}: check its wiring")
        self._stop()

    def _overloaded(self) -> bool:
        fresh = self._now_s - self._measured_s <= CURRENT_STALE_S
        since_s = max(self._over_s, self._safety.started_s(self.name))  # a motor that rested drew nothing
        return fresh and self._over_s > float("-inf") and self._now_s - since_s >= self._settings.current_time_s

    def _wait_open(self, duration_s: float, emptied_s: float = 0.0, belt: bool = False) -> Generator[None, None, None]:
        # The motor is off: a hand that takes the item out is welcome, and the gate does not close on it.
        self._waiting_open = True
        start_s = self._now_s
        if belt and duration_s > 0.0 and not self._safety.obstacles(start_s):
            self._safety.run(BELT, Direction.TO_BIN, start_s, duration_s)  # a hand stops it, and it stays off
        emptied_s = emptied_s or float("inf")
        while self._now_s < min(start_s + duration_s, self._emptied_s + emptied_s) or (
            self._safety.obstacles(self._now_s) and self._now_s - start_s < duration_s + self._settings.hand_limit_s
        ):
            yield
        self._stop_belt()
        self._waiting_open = False

    def _towards(self, target: EndSwitch) -> Direction:
        if self._position == target:
            return Direction.OFF
        if target != EndSwitch.CLOSED:
            return Direction.TO_BIN if target == EndSwitch.BIN else Direction.TO_CUSTOMER
        return Direction.TO_BIN if self._side == EndSwitch.CUSTOMER else Direction.TO_CUSTOMER

    def _see(self, position: EndSwitch) -> None:
        """Keep track of the side of CLOSED on which the gate is, for the way home from between two switches."""
        last = self._safety.last_direction(self.name)
        if position in (EndSwitch.BIN, EndSwitch.CUSTOMER):
            self._side = position
        elif self._position == EndSwitch.CLOSED and position == EndSwitch.BETWEEN and last:
            self._side = end_of(last)
        if position == EndSwitch.IMPOSSIBLE:
            self._end(Outcome.FAILED)
        elif self._position == EndSwitch.IMPOSSIBLE:
            self._homing_wanted = True
        self._position = position

    # The motor

    def _stop(self) -> None:
        self._safety.stop(self.name, self._now_s)
        self._run_time_s = self._safety.run_time_s(self.name, self._now_s)

    def _stop_belt(self) -> None:
        if BELT in self._safety.directions:
            self._safety.stop(BELT, self._now_s)

    def _end(self, outcome: Outcome) -> None:
        self._stop()
        if self._movement is not None:  # else the belt is another gate's
            self._stop_belt()
        self._waiting_open = False
        if self._movement is None:
            return
        self._movement, self.holder = None, ""
        if self._own:
            self._homing_wanted = outcome in (Outcome.INTERLOCK, Outcome.FAILED)
        else:
            self._outcome = outcome


def end_of(direction: Direction) -> EndSwitch:
    """The switch where a direction ends."""
    return EndSwitch.BIN if direction == Direction.TO_BIN else EndSwitch.CUSTOMER


def _other(direction: Direction) -> Direction:
    return Direction.TO_CUSTOMER if direction == Direction.TO_BIN else Direction.TO_BIN
