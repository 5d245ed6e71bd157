"""Which of the cabinet's named outputs is on: lamps, lock, buzzer. Without I/O; time is monotonic, s.

A call of `actuator/set_output` counts before the rule of an output, the rule before its safe value. Four names have a
rule (`RULES`); an output of any other name is driven by calls alone. Nothing here moves the gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from myrvm_core.machine_mode import Mode

LONGEST_S = 10.0  # the machine's own parts drive an output for so long at most in one call
LONGEST_FROM_AFAR_S = 600.0  # and the operator
LOCK = "door_lock"


class Refusal(IntEnum):
    """Numbers equal `SetOutput.REFUSED_*`."""

    NONE = 0
    UNKNOWN = 1
    NOT_ALLOWED = 2
    FAULT = 3
    LIMITED = 4


@dataclass(frozen=True)
class Pattern:
    """On for `on_s`, off for `off_s`, so many times; 0 times: for ever."""

    on_s: float
    off_s: float
    times: int = 0

    def at(self, elapsed_s: float) -> tuple[bool, float]:
        """Whether it is on `elapsed_s` after its begin, and in how many seconds that changes."""
        number, within_s = divmod(elapsed_s, self.on_s + self.off_s)
        if self.times and number >= self.times:
            return False, math.inf
        return (True, self.on_s - within_s) if within_s < self.on_s else (False, self.on_s + self.off_s - within_s)


STEADY = Pattern(math.inf, 0.0)
LAMP = {
    Mode.SERVING: STEADY,
    Mode.DEGRADED: STEADY,
    Mode.STARTING: Pattern(0.5, 0.5),
    Mode.STOPPING: Pattern(0.5, 0.5),
    Mode.OUT_OF_ORDER: Pattern(0.2, 0.2),
    Mode.MAINTENANCE: Pattern(1.0, 1.0),
}
REFUSED = Pattern(0.12, 0.12, times=2)


@dataclass
class Seen:
    """What the rules go by; `*_since_s` is when it began."""

    mode: Mode = Mode.UNKNOWN
    mode_since_s: float = 0.0
    looking: bool = False
    looking_since_s: float = 0.0
    refused_s: float = -math.inf
    dark: bool = False
    door_open: bool | None = None
    door_heard_s: float = -math.inf


Rule: TypeAlias = Callable[[Seen, float], tuple[bool, float]]  # on, and in how many seconds that may change


def _status_lamp(seen: Seen, now_s: float) -> tuple[bool, float]:
    if seen.dark or seen.mode not in LAMP:
        return False, math.inf
    return LAMP[seen.mode].at(now_s - seen.mode_since_s)


def _door_lock(seen: Seen, now_s: float) -> tuple[bool, float]:
    return seen.mode == Mode.MAINTENANCE and not seen.door_open, math.inf


def _buzzer(seen: Seen, now_s: float) -> tuple[bool, float]:
    return REFUSED.at(now_s - seen.refused_s)


def _light_ring(limit_s: float) -> Rule:
    def rule(seen: Seen, now_s: float) -> tuple[bool, float]:
        left_s = seen.looking_since_s + limit_s - now_s
        return (True, left_s) if seen.looking and left_s > 0 else (False, math.inf)

    return rule


@dataclass(frozen=True)
class Call:
    """An output that somebody drives."""

    on: bool
    until_s: float
    technician: bool


class Outputs:
    """The outputs of a profile.

    Args:
        safe_on: each output's safe value, in the order of the profile.
        light_limit_s: the light ring is on for one item at most so long, whatever the deposit node says.
        door_stale_s: a door that was not heard of for so long is not known to be open.
    """

    def __init__(self, safe_on: Mapping[str, bool], light_limit_s: float, door_stale_s: float) -> None:
        self.safe_on = dict(safe_on)
        self._rules: dict[str, Rule] = {
            "light_ring": _light_ring(light_limit_s), "status_lamp": _status_lamp, LOCK: _door_lock, "buzzer": _buzzer,
        }  # fmt: skip
        self._door_stale_s = door_stale_s
        self._seen = Seen()
        self._calls: dict[str, Call] = {}

    def mode(self, mode: Mode, now_s: float) -> None:
        """The machine's mode."""
        if mode != self._seen.mode:
            self._seen.mode, self._seen.mode_since_s = mode, now_s

    def looking(self, looking: bool, now_s: float) -> None:
        """Whether an item is looked at."""
        if looking and not self._seen.looking:
            self._seen.looking_since_s = now_s
        self._seen.looking = looking

    def refused(self, now_s: float) -> None:
        """An item is given back."""
        self._seen.refused_s = now_s

    def dark(self, dark: bool) -> None:
        """Lamps are to be off but while a picture is taken."""
        self._seen.dark = dark

    def door(self, opened: bool | None, heard_s: float) -> None:
        """The service door as it was at `heard_s`; None is unknown."""
        self._seen.door_open, self._seen.door_heard_s = opened, heard_s

    def call(
        self, name: str, on: bool, duration_s: float, technician: bool, now_s: float, from_afar: bool = False
    ) -> tuple[Refusal, str]:
        """Drive an output, for `duration_s` or until the next call; or the reason why not, one line."""
        if name not in self.safe_on:
            return Refusal.UNKNOWN, f"no output {name!r}; there are: {', '.join(self.safe_on) or 'none'}"
        if not (math.isfinite(duration_s) and duration_s >= 0.0):
            return Refusal.NOT_ALLOWED, f"duration_s = {duration_s:g} is not allowed: 0 or more"
        if technician and (why := self._not_attended(now_s)):
            return Refusal.NOT_ALLOWED, f"a technician drives outputs {why}"
        if not (technician or from_afar) and name == LOCK:
            return Refusal.NOT_ALLOWED, f"{name} is driven by a technician or the operator, or by itself in maintenance"
        longest_s = LONGEST_FROM_AFAR_S if from_afar else LONGEST_S
        if not technician and not 0.0 < duration_s <= longest_s:
            return Refusal.NOT_ALLOWED, f"the machine drives an output for a time: 0 .. {longest_s:g} s"
        if on and self._seen.dark and name in ("light_ring", "status_lamp"):
            return Refusal.LIMITED, f"{name} stays off: heat or power, see health/limits"
        self._calls[name] = Call(on, now_s + duration_s if duration_s else math.inf, technician)
        return Refusal.NONE, ""

    def values(self, now_s: float) -> tuple[dict[str, bool], float]:
        """Each output as it is to be now, and in how many seconds that may change by itself; infinite for never."""
        attended = not self._not_attended(now_s)
        self._calls = {
            name: call for name, call in self._calls.items()
            if call.until_s > now_s and (attended or not call.technician)
        }  # fmt: skip
        values: dict[str, bool] = {}
        next_s = [call.until_s - now_s for call in self._calls.values()]
        for name, safe in self.safe_on.items():
            if name in self._calls:
                values[name] = self._calls[name].on
            elif name in self._rules:
                values[name], changes_in_s = self._rules[name](self._seen, now_s)
                next_s.append(changes_in_s)
            else:
                values[name] = safe
        return values, min(next_s, default=math.inf)

    def _not_attended(self, now_s: float) -> str:
        if self._seen.mode != Mode.MAINTENANCE:
            return "only in maintenance (rvm maintenance on)"
        if now_s - self._seen.door_heard_s > self._door_stale_s or self._seen.door_open is None:
            return "only with the service door open: its sensor says nothing"
        return "" if self._seen.door_open else "only with the service door open"


def differing(wanted: Mapping[str, bool], levels: Mapping[str, bool]) -> Sequence[str]:
    """Outputs whose line does not read as it is driven."""
    return [name for name, on in wanted.items() if levels.get(name) != on]
