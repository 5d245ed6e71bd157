"""What the health monitor sees: figures of the machine, as findings for /diagnostics and for the policy. No ROS here.

Figures come from psutil, sysfs and the sensors. CPU and memory have thresholds here, because nothing follows from them
but a warning; what the machine acts upon (temperature, power, storage, clock) is judged by `policy` alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

import psutil

from myrvm_system.board import Board, BoardFigures
from myrvm_system.policy import Cause, Figures, Judgement, LimitLevel, Limits, Policy
from myrvm_system.settings import HealthSettings


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Finding:
    """State of one resource."""

    name: str
    level: Level
    message: str
    values: dict[str, str] = field(default_factory=dict)


class Threshold:
    """A limit with hysteresis: warns above it, and until the value is `hysteresis` below it again."""

    def __init__(self, limit: float, hysteresis: float) -> None:
        self._limit = limit
        self._hysteresis = hysteresis
        self._above = False

    def above(self, value: float) -> bool:
        """Take the next value."""
        self._above = value > (self._limit - self._hysteresis if self._above else self._limit)
        return self._above


@dataclass(frozen=True)
class Power:
    """What the sensors tell of the power; None where they do not."""

    on_battery: bool | None = None
    battery_charge: float | None = None
    battery_low: bool | None = None
    power_fail: bool | None = None


class Monitor:
    """Looks at the machine once a period. `limits` is what the policy made of the last look.

    Args:
        settings: of the health node.
        policy: judges what the machine acts upon.
        board: the computer.
        clock_known: whether the time of day is known.
        disk: a folder on the disk that holds the machine's data.
    """

    def __init__(
        self, settings: HealthSettings, policy: Policy, board: Board, clock_known: Callable[[], bool], disk: Path
    ) -> None:
        self._settings = settings
        self._policy, self._board, self._clock_known = policy, board, clock_known
        self._disk = disk
        self._cpu_percent: float | None = None
        self._thresholds: dict[str, Threshold] = {}
        self._figures = Figures()
        self.limits = Limits()
        psutil.cpu_percent()  # the first call only marks the beginning

    def look(self, now_s: float, power: Power, wear_percent: float | None = None) -> list[Finding]:
        """Findings for every resource, at `now_s` (monotonic); `wear_percent` is the used part of the disk's life."""
        board = self._board.look()
        disk, free_mb = self.disk()
        self._figures = Figures(
            {zone.name: zone.temperature_c for zone in board.zones}, disk_free_mb=free_mb,
            disk_wear_percent=wear_percent, clock_known=self._clock_known(),
        )  # fmt: skip
        self.judge(now_s, power)
        return [
            self.cpu(psutil.cpu_percent()),
            self.memory(),
            *disk,
            *judged(self._policy.judgements),
            *about_board(board),
        ]

    def judge(self, now_s: float, power: Power) -> Limits:
        """The limits by the last look's figures and the power as it is now."""
        figures = replace(
            self._figures, on_battery=power.on_battery, battery_charge=power.battery_charge,
            battery_low=power.battery_low, power_fail=power.power_fail,
        )  # fmt: skip
        self.limits = self._policy.judge(now_s, figures)
        return self.limits

    def cpu(self, percent: float) -> Finding:
        """Load of the whole CPU, smoothed: a verdict's short burst is no alarm."""
        weight = self._settings.period_s / (self._settings.period_s + self._settings.smoothing_s)
        before = percent if self._cpu_percent is None else self._cpu_percent
        self._cpu_percent = before + weight * (percent - before)
        load = os.getloadavg()[0]
        return self._judge(
            "cpu", self._cpu_percent, self._settings.cpu_percent, "%",
            {"load_percent": f"{self._cpu_percent:.1f}", "load_1min": f"{load:.2f}", "cores": str(os.cpu_count())},
        )  # fmt: skip

    def memory(self) -> Finding:
        """Memory that is not available."""
        memory = psutil.virtual_memory()
        return self._judge(
            "memory", memory.percent, self._settings.memory_percent, "%",
            {"used_percent": f"{memory.percent:.1f}", "available_mb": f"{memory.available / 1e6:.0f}"},
        )  # fmt: skip

    def disk(self) -> tuple[list[Finding], float | None]:
        """The disk that holds the machine's data, and what is free on it, MB: the policy judges that."""
        try:
            usage = psutil.disk_usage(str(self._disk))
        except OSError as error:
            return [Finding("disk", Level.ERROR, f"{self._disk} cannot be read: {error.strerror}")], None
        values = {"used_percent": f"{usage.percent:.1f}", "path": str(self._disk)}
        return [Finding("disk", Level.OK, f"{usage.percent:.0f} % used", values)], usage.free / 1e6

    def _judge(self, name: str, value: float, limit: float, unit: str, values: dict[str, str]) -> Finding:
        threshold = self._thresholds.setdefault(name, Threshold(limit, self._settings.hysteresis))
        if threshold.above(value):
            return Finding(name, Level.WARN, f"{value:.0f} {unit}, limit {limit:g} {unit}", values)
        return Finding(name, Level.OK, f"{value:.0f} {unit}", values)


ABSENT_S = 10.0  # a sensor that is away for a moment (its node was restarted) is nothing to report


def judged(judgements: Iterable[Judgement]) -> Iterator[Finding]:
    """Findings of what the policy judged; what was never there is left out, but for thermal zones."""
    judgements = list(judgements)
    zones = [judgement for judgement in judgements if judgement.cause == Cause.TEMPERATURE]
    # Zones of a Jetson that are switched off do not answer: that is no fault as long as another one does.
    a_zone_answers = any(zone.known for zone in zones)
    if not zones:
        yield Finding("temperature", Level.OK, "no thermal zone")
    for judgement in judgements:
        level = Level.OK
        if judgement.level:
            level = Level.ERROR if judgement.level >= LimitLevel.PAUSED else Level.WARN
        message = f"{judgement.message}: {judgement.level.name}" if judgement.level else judgement.message
        if judgement.absent_s is not None:
            message += f" for {judgement.absent_s:.0f} s"
            excused = judgement.cause == Cause.TEMPERATURE and a_zone_answers
            level = level if excused or judgement.absent_s < ABSENT_S else max(level, Level.WARN)
        elif not judgement.known and judgement.cause != Cause.TEMPERATURE:
            continue
        yield Finding(judgement.name, level, message, {"limit": judgement.level.name})


def about_board(board: BoardFigures) -> Iterator[Finding]:
    """Throttling, power mode and load of the GPU, as far as the board tells."""
    if board.throttling.devices:
        active = ", ".join(board.throttling.active)
        yield Finding("throttling", Level.WARN if active else Level.OK, active or "none")
    if board.power_mode:
        yield Finding("power mode", Level.OK, board.power_mode)
    if (load := board.gpu_load_percent) is not None:
        yield Finding("gpu", Level.OK, f"{load:.0f} %", {"load_percent": f"{load:.1f}"})


@dataclass(frozen=True)
class Heartbeat:
    """What a node said of itself last, and when it was heard (monotonic, s)."""

    node: str
    heard_s: float
    level: int
    message: str
    values: dict[str, str] = field(default_factory=dict)


class Nodes:
    """The nodes by their heartbeats.

    Args:
        expected: their names.
        stale_after_s: without a heartbeat for so long a node is stale.
        held_up_s: so long between two calls of `findings` means that this process itself was held up.
        now_s: monotonic.
    """

    def __init__(self, expected: tuple[str, ...], stale_after_s: float, held_up_s: float, now_s: float) -> None:
        self._stale_after_s, self._held_up_s = stale_after_s, held_up_s
        self._looked_s = now_s
        self._heard = {name: Heartbeat(name, now_s, Level.STALE, "no heartbeat yet") for name in expected}

    def heard(self, heartbeat: Heartbeat) -> None:
        """Take a heartbeat."""
        self._heard[heartbeat.node] = heartbeat

    def findings(self, now_s: float) -> list[Finding]:
        """One finding a node; STALE where it is silent. Time in which this was not called says nothing of the nodes."""
        gap_s, self._looked_s = now_s - self._looked_s, now_s
        if gap_s > self._held_up_s:
            self._heard = {
                name: replace(heartbeat, heard_s=heartbeat.heard_s + gap_s) for name, heartbeat in self._heard.items()
            }
        return [self._finding(heartbeat, now_s) for heartbeat in self._heard.values()]

    def _finding(self, heartbeat: Heartbeat, now_s: float) -> Finding:
        silent_s = now_s - heartbeat.heard_s
        if silent_s > self._stale_after_s:
            return Finding(heartbeat.node, Level.STALE, f"no heartbeat for {silent_s:.0f} s", heartbeat.values)
        return Finding(heartbeat.node, Level(heartbeat.level), heartbeat.message, heartbeat.values)
