"""What the machine may do when it is hot, on battery, out of disk or out of time: the policy table. No I/O here.

Figures and the time go in, limits come out. `config/policy.yaml` is the table; docs/health.md explains it. Each
threshold is a latch of its own: set when the figure has been beyond it for `worse_after_s`, reset when the figure has
been better than it by the hysteresis for `better_after_s`. The worst latch that is set gives the level. So a hotter
machine is never limited less, and within the hysteresis nothing changes twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, cast

from myrvm_core.errors import SettingsError
from myrvm_core.settings import read_yaml, validate
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class LimitLevel(IntEnum):
    """Levels of OperatingLimits."""

    NORMAL = 0
    WARN = 1
    SLOW = 2
    DARK = 3
    PAUSED = 4
    SHUTDOWN = 5


class Cause(IntEnum):
    """Causes of OperatingLimits; the names are those of SystemStatus.REASON_*."""

    TEMPERATURE = 1
    POWER = 2
    STORAGE = 3
    CLOCK = 4


def _level(value: Any) -> Any:
    if isinstance(value, LimitLevel):
        return value
    if value not in LimitLevel.__members__:
        raise ValueError(f"one of {', '.join(LimitLevel.__members__)}")
    return LimitLevel[value]


Level = Annotated[LimitLevel, BeforeValidator(_level)]
Seconds = Annotated[float, Field(ge=0.0, le=86_400.0)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Row(_Model):
    """A level holds from `from` (included) to `below`; the two outermost rows are open to the outside."""

    level: Level
    lowest: float | None = Field(default=None, alias="from")
    below: float | None = None


class Scale(_Model):
    """Rows over a figure, from its lowest values to its highest, without hole and overlap."""

    rows: tuple[Row, ...] = Field(min_length=1)
    hysteresis: float = Field(gt=0.0)
    worse_after_s: Seconds
    better_after_s: Seconds


class StateRow(_Model):
    """A level holds once the state has lasted `after_s`."""

    level: Level
    after_s: Seconds


class StateTable(_Model):
    """What a state that is or is not (the power-fail line) leads to."""

    rows: tuple[StateRow, ...] = Field(min_length=1)
    better_after_s: Seconds


class PolicyTable(_Model):
    """`config/policy.yaml`."""

    temperature_c: Scale
    battery_charge: Scale
    disk_free_mb: Scale
    disk_wear_percent: Scale
    battery_unknown: StateTable
    battery_low: StateTable
    power_fail: StateTable
    clock_unknown: StateTable
    slow_frame_rate_hz: float = Field(ge=1.0, le=120.0)
    absent_after_s: Seconds


# name: (cause, whether larger is worse, every level must be there)
SCALES = {
    "temperature_c": (Cause.TEMPERATURE, True, True),
    "battery_charge": (Cause.POWER, False, False),
    "disk_free_mb": (Cause.STORAGE, False, False),
    "disk_wear_percent": (Cause.STORAGE, True, False),
}
STATES = {
    "battery_unknown": Cause.POWER,
    "battery_low": Cause.POWER,
    "power_fail": Cause.POWER,
    "clock_unknown": Cause.CLOCK,
}
UNITS = {"temperature_c": " degC", "battery_charge": "", "disk_free_mb": " MB", "disk_wear_percent": " % used"}
WORDS = {  # how a state reads while it holds
    "battery_unknown": "mains is gone, the battery's charge is not known",
    "battery_low": "the battery is nearly empty",
    "power_fail": "the power fails",
    "clock_unknown": "the time of day is not known",
}


def load(file: Path) -> PolicyTable:
    """Read the table.

    Raises:
        SettingsError: the file cannot be read, or the table has a hole, an overlap, thresholds out of order or lacks
            a level; one line each.
    """
    return parse(read_yaml(file), str(file))


def parse(raw: Any, where: str) -> PolicyTable:
    """Build the table from the parsed file; errors as in `load`."""
    if not isinstance(raw, dict):
        raise SettingsError(f"{where} = {raw!r} is not allowed: a mapping, see docs/health.md")
    table = validate(PolicyTable, cast("dict[str, Any]", raw), where)
    problems: list[str] = []
    for name, (_, rising, complete) in SCALES.items():
        problems += _wrong_with_scale(getattr(table, name), rising, complete, f"{where}: {name}")
    for name in STATES:
        problems += _wrong_with_states(getattr(table, name), f"{where}: {name}")
    if problems:
        raise SettingsError(*problems)
    return table


def _wrong_with_scale(scale: Scale, rising: bool, complete: bool, where: str) -> Iterator[str]:
    rows = scale.rows
    if rows[0].lowest is not None:
        yield f"{where} has a hole: nothing is said below {rows[0].lowest:g}"
    if rows[-1].below is not None:
        yield f"{where} has a hole: nothing is said from {rows[-1].below:g} upwards"
    for number, row in enumerate(rows, start=1):
        if row.lowest is not None and row.below is not None and row.lowest >= row.below:
            yield f"{where}: row {number} is out of order: from {row.lowest:g} is not below {row.below:g}"
    for number, (row, following) in enumerate(pairwise(rows), start=2):
        if row.below is None or following.lowest is None:
            missing = f"row {number - 1} has no 'below'" if row.below is None else f"row {number} has no 'from'"
            yield f"{where}: {missing}: only the outermost rows are open"
        elif row.below < following.lowest:
            yield f"{where} has a hole: nothing is said from {row.below:g} to {following.lowest:g}"
        elif row.below > following.lowest:
            yield f"{where} has an overlap: rows {number - 1} and {number} both hold from {following.lowest:g}"
        if (row.level >= following.level) if rising else (row.level <= following.level):
            way = f"{following.level.name} after {row.level.name}, must go {'up' if rising else 'down'}"
            yield f"{where}: row {number} is out of order: {way}"
    if complete and (missing := [level.name for level in LimitLevel if level not in {row.level for row in rows}]):
        yield f"{where} lacks the level {', '.join(missing)}"


def _wrong_with_states(table: StateTable, where: str) -> Iterator[str]:
    for number, (row, following) in enumerate(pairwise(table.rows), start=2):
        if following.level <= row.level or following.after_s <= row.after_s:
            yield (
                f"{where}: row {number} is out of order: {following.level.name} after {following.after_s:g} s, "
                f"must be worse and later than {row.level.name} after {row.after_s:g} s"
            )


@dataclass(frozen=True)
class Figures:
    """What was measured; None or NaN where it is not known.

    Attributes:
        temperatures_c: by zone, degC.
        on_battery: mains is gone.
        battery_charge: 0 .. 1; counts only while mains is known to be gone.
        battery_low: the battery says that it is nearly empty; counts unless mains is known to be there.
        power_fail: the power-fail line is active.
        disk_free_mb: free for this user, where the machine's data is.
        disk_wear_percent: part of the disk's life that is used.
        clock_known: the time of day is known.
    """

    temperatures_c: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])
    on_battery: bool | None = None
    battery_charge: float | None = None
    battery_low: bool | None = None
    power_fail: bool | None = None
    disk_free_mb: float | None = None
    disk_wear_percent: float | None = None
    clock_known: bool | None = None


@dataclass(frozen=True)
class Judgement:
    """What one figure leads to.

    Attributes:
        name: such as `temperature cpu-thermal` or `power fail`.
        known: whether there is a figure now.
        absent_s: how long there has been none; None where there is one, or never was.
    """

    name: str
    cause: Cause
    level: LimitLevel
    message: str
    known: bool
    absent_s: float | None = None


@dataclass(frozen=True)
class Limits:
    """What the machine may do now; `causes` and `message` are those of the worst level."""

    level: LimitLevel = LimitLevel.NORMAL
    causes: tuple[Cause, ...] = ()
    frame_rate_limit_hz: float = 0.0
    message: str = ""


class _Latch:
    """One threshold."""

    def __init__(
        self, level: LimitLevel, limit: float, margin: float, worse_after_s: float, better_after_s: float
    ) -> None:
        self.level = level
        self.is_set = False
        self._limit, self._margin = limit, margin
        self._after_s = {False: worse_after_s, True: better_after_s}
        self._since_s: float | None = None

    def take(self, now_s: float, badness: float | None) -> None:
        """The figure now, larger is worse; None where there is certainly nothing bad."""
        if badness is None:
            contrary = self.is_set
        elif self.is_set:
            contrary = badness < self._limit - self._margin
        else:
            contrary = badness >= self._limit
        if not contrary:
            self._since_s = None
            return
        self._since_s = now_s if self._since_s is None else self._since_s
        if now_s - self._since_s >= self._after_s[self.is_set]:
            self.is_set, self._since_s = not self.is_set, None

    def forget_time(self) -> None:
        """The figure is not known: neither worse nor better since anything."""
        self._since_s = None


class _Track:
    """The latches of one figure, and since when it has been absent."""

    def __init__(self, latches: list[_Latch], absent_after_s: float) -> None:
        self._latches = latches
        self._absent_after_s = absent_after_s
        self._absent_since_s: float | None = None
        self._seen = False

    def take(self, now_s: float, badness: float | None) -> None:
        """A known figure; None as for a latch."""
        self._seen, self._absent_since_s = True, None
        for latch in self._latches:
            latch.take(now_s, badness)

    def absent(self, now_s: float) -> None:
        """No figure: what is set stays set for a while, then it is forgotten."""
        self._absent_since_s = now_s if self._absent_since_s is None else self._absent_since_s
        for latch in self._latches:
            latch.forget_time()
            if now_s - self._absent_since_s >= self._absent_after_s:
                latch.is_set = False

    def absent_s(self, now_s: float) -> float | None:
        """How long it has been absent; None where it is there or never was."""
        return now_s - self._absent_since_s if self._seen and self._absent_since_s is not None else None

    @property
    def level(self) -> LimitLevel:
        return max((latch.level for latch in self._latches if latch.is_set), default=LimitLevel.NORMAL)


class Policy:
    """The table at work: remembers what is exceeded and since when.

    `judgements` holds what each figure led to, by the last `judge`.
    """

    def __init__(self, table: PolicyTable) -> None:
        self._table = table
        self._tracks: dict[str, _Track] = {}
        self.judgements: list[Judgement] = []

    def judge(self, now_s: float, figures: Figures) -> Limits:
        """The limits at `now_s` (monotonic)."""
        zones = {name.partition(" ")[2]: None for name in self._tracks if name.startswith("temperature_c ")}
        judgements = [
            self._scale(now_s, "temperature_c", value, zone)
            for zone, value in {**zones, **figures.temperatures_c}.items()
        ]
        judgements += self._power(now_s, figures)
        judgements.append(self._scale(now_s, "disk_free_mb", figures.disk_free_mb))
        judgements.append(self._scale(now_s, "disk_wear_percent", figures.disk_wear_percent))
        clock_unknown = None if figures.clock_known is None else not figures.clock_known
        judgements.append(self._state(now_s, "clock_unknown", clock_unknown))
        self.judgements = judgements
        level = max(judgement.level for judgement in judgements)
        if level == LimitLevel.NORMAL:
            return Limits()
        worst = [judgement for judgement in judgements if judgement.level == level]
        return Limits(
            level,
            tuple(sorted({judgement.cause for judgement in worst})),
            self._table.slow_frame_rate_hz if level >= LimitLevel.SLOW else 0.0,
            "; ".join(f"{judgement.name}: {judgement.message}" for judgement in worst),
        )

    def _power(self, now_s: float, figures: Figures) -> Iterator[Judgement]:
        # On mains a low battery is being charged: to switch off then would be to never come back.
        on_mains = figures.on_battery is False
        charge = figures.battery_charge if figures.on_battery else None
        yield self._scale(now_s, "battery_charge", charge, clear=on_mains)
        charge_unknown = charge is None or not math.isfinite(charge)
        yield self._state(now_s, "battery_unknown", figures.on_battery and charge_unknown)
        yield self._state(now_s, "battery_low", False if on_mains else figures.battery_low)
        yield self._state(now_s, "power_fail", figures.power_fail)

    def _scale(self, now_s: float, name: str, value: float | None, zone: str = "", clear: bool = False) -> Judgement:
        cause, rising, _ = SCALES[name]
        track = self._track(f"{name} {zone}".strip(), lambda: self._scale_latches(getattr(self._table, name), rising))
        shown = f"temperature {zone}" if zone else name.removesuffix("_percent").removesuffix("_mb").replace("_", " ")
        if clear:
            track.take(now_s, None)
            return Judgement(shown, cause, track.level, "on mains", known=True)
        if value is None or not math.isfinite(value):
            track.absent(now_s)
            return Judgement(shown, cause, track.level, "no reading", False, track.absent_s(now_s))
        track.take(now_s, value if rising else -value)
        return Judgement(shown, cause, track.level, f"{_shown(value)}{UNITS[name]}", known=True)

    def _state(self, now_s: float, name: str, state: bool | None) -> Judgement:
        table: StateTable = getattr(self._table, name)
        track = self._track(
            name, lambda: [_Latch(row.level, 1.0, 0.0, row.after_s, table.better_after_s) for row in table.rows]
        )
        if state is None:
            track.absent(now_s)
        else:
            track.take(now_s, 1.0 if state else None)
        message = WORDS[name] if track.level else "no reading" if state is None else "no"
        return Judgement(
            name.replace("_", " "), STATES[name], track.level, message, state is not None, track.absent_s(now_s)
        )

    def _track(self, name: str, latches: Any) -> _Track:
        if name not in self._tracks:
            self._tracks[name] = _Track(latches(), self._table.absent_after_s)
        return self._tracks[name]

    @staticmethod
    def _scale_latches(scale: Scale, rising: bool) -> list[_Latch]:
        latches: list[_Latch] = []
        for row in scale.rows:
            bound = row.lowest if rising else row.below
            limit = -math.inf if bound is None else bound if rising else math.nextafter(-bound, math.inf)
            if row.level > LimitLevel.NORMAL:
                latches.append(_Latch(row.level, limit, scale.hysteresis, scale.worse_after_s, scale.better_after_s))
        return latches


def _shown(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"
