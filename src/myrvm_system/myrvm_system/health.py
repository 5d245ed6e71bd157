"""What the health monitor judges: figures of the machine against thresholds, with hysteresis. No ROS here.

Figures come from psutil and sysfs: CPU, memory and disk in %, temperature of every thermal zone in degC, network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from socket import AF_INET

import psutil

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
class Zone:
    """One thermal zone of the kernel: temperature in degC, None where it cannot be read now."""

    name: str
    temperature_c: float | None


def thermal_zones(sysfs: Path) -> list[Zone]:
    """Every zone in `<sysfs>/class/thermal`. A Jetson's idle zones answer EAGAIN: those are None."""
    zones: list[Zone] = []
    for folder in sorted(sysfs.glob("class/thermal/thermal_zone*")):
        try:
            name = (folder / "type").read_text().strip()
        except OSError:
            name = folder.name
        try:
            zones.append(Zone(name, int((folder / "temp").read_text()) / 1000.0))
        except (OSError, ValueError):
            zones.append(Zone(name, None))
    return zones


def gpu_load_percent(sysfs: Path) -> float | None:
    """Load of a Jetson's GPU (`/sys/devices/**/gpu*/load`, tenths of a percent), None where there is none."""
    for path in (*sysfs.glob("devices/gpu.0/load"), *sysfs.glob("devices/platform/*gpu*/load"),
                 *sysfs.glob("devices/platform/bus@0/*.gpu/load")):  # fmt: skip
        try:
            return int(path.read_text()) / 10.0
        except (OSError, ValueError):
            continue
    return None


class Monitor:
    """Looks at the machine once a period."""

    def __init__(self, settings: HealthSettings, disk: Path) -> None:
        self._settings = settings
        self._disk = disk
        self._sysfs = Path(settings.sysfs_root)
        self._cpu_percent: float | None = None
        self._thresholds: dict[str, Threshold] = {}
        psutil.cpu_percent()  # the first call only marks the beginning

    def look(self) -> list[Finding]:
        """Findings for every resource."""
        gpu = gpu_load_percent(self._sysfs)
        return [
            self.cpu(psutil.cpu_percent()),
            self.memory(),
            self.disk(),
            *self.temperatures(),
            network(),
            *([Finding("gpu", Level.OK, f"{gpu:.0f} %", {"load_percent": f"{gpu:.1f}"})] if gpu is not None else []),
        ]

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

    def disk(self) -> Finding:
        """The disk that holds the machine's data."""
        try:
            usage = psutil.disk_usage(str(self._disk))
        except OSError as error:
            return Finding("disk", Level.ERROR, f"{self._disk} cannot be read: {error.strerror}")
        return self._judge(
            "disk", usage.percent, self._settings.disk_percent, "%",
            {"used_percent": f"{usage.percent:.1f}", "free_mb": f"{usage.free / 1e6:.0f}", "path": str(self._disk)},
        )  # fmt: skip

    def temperatures(self) -> Iterator[Finding]:
        """Every thermal zone; zones of one name are numbered."""
        zones = thermal_zones(self._sysfs)
        if not zones:
            yield Finding("temperature", Level.OK, f"no thermal zone in {self._sysfs}")
        seen: dict[str, int] = {}
        for zone in zones:
            seen[zone.name] = number = seen.get(zone.name, 0) + 1
            name = f"temperature {zone.name}" + (f" {number}" if number > 1 else "")
            if zone.temperature_c is None:
                yield Finding(name, Level.OK, "not readable now")
            else:
                value = {"temperature_c": f"{zone.temperature_c:.1f}"}
                yield self._judge(name, zone.temperature_c, self._settings.temperature_c, "degC", value)

    def _judge(self, name: str, value: float, limit: float, unit: str, values: dict[str, str]) -> Finding:
        threshold = self._thresholds.setdefault(name, Threshold(limit, self._settings.hysteresis))
        if threshold.above(value):
            return Finding(name, Level.WARN, f"{value:.0f} {unit}, limit {limit:g} {unit}", values)
        return Finding(name, Level.OK, f"{value:.0f} {unit}", values)


def network() -> Finding:
    """Whether any interface but the loopback is up, and the addresses."""
    addresses = psutil.net_if_addrs()
    up = sorted(name for name, state in psutil.net_if_stats().items() if state.isup and name != "lo")
    values = {
        name: " ".join(entry.address for entry in addresses.get(name, ()) if entry.family == AF_INET) for name in up
    }
    with_address = [name for name, address in values.items() if address]
    if not with_address:
        return Finding("network", Level.WARN, "no interface has an address: the machine serves offline", values)
    return Finding("network", Level.OK, f"up: {', '.join(with_address)}", values)


@dataclass(frozen=True)
class Heartbeat:
    """What a node said of itself last, and when it was heard (monotonic, s)."""

    node: str
    heard_s: float
    level: int
    message: str
    values: dict[str, str] = field(default_factory=dict)


class Nodes:
    """The nodes by their heartbeats."""

    def __init__(self, expected: tuple[str, ...], stale_after_s: float, now_s: float) -> None:
        self._stale_after_s = stale_after_s
        self._heard = {name: Heartbeat(name, now_s, Level.STALE, "no heartbeat yet") for name in expected}

    def heard(self, heartbeat: Heartbeat) -> None:
        """Take a heartbeat."""
        self._heard[heartbeat.node] = heartbeat

    def findings(self, now_s: float) -> list[Finding]:
        """One finding a node; STALE where it is silent."""
        return [self._finding(heartbeat, now_s) for heartbeat in self._heard.values()]

    def _finding(self, heartbeat: Heartbeat, now_s: float) -> Finding:
        silent_s = now_s - heartbeat.heard_s
        if silent_s > self._stale_after_s:
            return Finding(heartbeat.node, Level.STALE, f"no heartbeat for {silent_s:.0f} s", heartbeat.values)
        return Finding(heartbeat.node, Level(heartbeat.level), heartbeat.message, heartbeat.values)
