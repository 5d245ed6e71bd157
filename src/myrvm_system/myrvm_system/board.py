"""What the computer board tells of itself: thermal zones, throttling, power mode, load of the GPU.

The kernel's sysfs is read for all of them, and jetson-stats (`jtop`, where it is installed and its service runs) for
power mode and GPU load. Tried with trees of files and a stand-in of jtop only, not on a Jetson.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from myrvm_core.backoff import Backoff
from myrvm_core.kernel_files import number, text

REOPEN = Backoff(1.0, 60.0)
NOT_THROTTLING = ("fan", "hot-surface")  # cooling devices that take no speed away
POWER_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")  # /etc/nvpmodel.conf


@dataclass(frozen=True)
class Zone:
    """One thermal zone of the kernel: temperature in degC, None where it cannot be read now."""

    name: str
    temperature_c: float | None


@dataclass(frozen=True)
class Throttling:
    """Whether the board takes speed away from itself. `devices` counts what could do it; `active` says what does."""

    devices: int = 0
    active: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoardFigures:
    """One look at the board; empty or None where it does not tell."""

    zones: list[Zone] = field(default_factory=list[Zone])
    throttling: Throttling = Throttling()
    power_mode: str = ""
    gpu_load_percent: float | None = None


def thermal_zones(sysfs: Path) -> list[Zone]:
    """Every zone in `<sysfs>/class/thermal`; those of one name are numbered. A Jetson's idle zones answer EAGAIN."""
    zones: list[Zone] = []
    seen: dict[str, int] = {}
    for folder in sorted(sysfs.glob("class/thermal/thermal_zone*"), key=lambda path: (len(path.name), path.name)):
        name = text(folder / "type") or folder.name
        seen[name] = nth = seen.get(name, 0) + 1
        millidegrees = number(folder / "temp")
        temperature_c = None if millidegrees is None else millidegrees / 1000.0
        zones.append(Zone(f"{name} {nth}" if nth > 1 else name, temperature_c))
    return zones


def gpu_load_percent(sysfs: Path) -> float | None:
    """Load of a Jetson's GPU (`load`, tenths of a percent), None where there is none."""
    for pattern in ("devices/gpu.0/load", "devices/platform/*gpu*/load", "devices/platform/bus@0/*.gpu/load",
                    "class/devfreq/*gpu*/device/load"):  # fmt: skip
        for path in sysfs.glob(pattern):
            load = number(path)
            if load is not None:
                return load / 10.0
    return None


def power_mode(root: Path) -> str:
    """The mode that nvpmodel set, by name where /etc/nvpmodel.conf has it; empty where there is no nvpmodel."""
    found = re.search(r"pmode:(\d+)", text(root / "var/lib/nvpmodel/status"))
    if found is None:
        return ""
    mode = int(found[1])
    names = {int(known): name for known, name in POWER_MODE.findall(text(root / "etc/nvpmodel.conf"))}
    return names.get(mode, f"mode {mode}")


class Throttles:
    """The kernel's cooling devices, and the over-current events that a Jetson's hwmon counts."""

    def __init__(self, sysfs: Path) -> None:
        self._sysfs = sysfs
        self._events: dict[str, int] = {}

    def look(self) -> Throttling:
        """What is active now; an over-current event is shown by the look that sees the counter risen."""
        devices = 0
        active: list[str] = []
        for folder in sorted(self._sysfs.glob("class/thermal/cooling_device*")):
            kind = text(folder / "type")
            state = number(folder / "cur_state")
            if state is None or any(word in kind for word in NOT_THROTTLING):
                continue
            devices += 1
            if state > 0:
                active.append(f"{kind or folder.name} {state}/{number(folder / 'max_state') or '?'}")
        for path in sorted(self._sysfs.glob("class/hwmon/hwmon*/oc*_event_cnt")):
            count = number(path)
            if count is None:
                continue
            devices += 1
            name = path.name.removesuffix("_event_cnt")
            if count > self._events.setdefault(str(path), count):
                active.append(f"over-current {name}, {count} events since boot")
            self._events[str(path)] = count
        return Throttling(devices, tuple(active))


class Board:
    """Looks at the board.

    Args:
        sysfs: `/sys`, or a tree that stands in for it.
        log: the node's logger.
        root: where nvpmodel's files are.
        jtop: opens jetson-stats' client; None where it is not installed or not wanted.
    """

    def __init__(self, sysfs: Path, log: Any, root: Path = Path("/"), jtop: Callable[[], Any] | None = None) -> None:
        self._sysfs, self._root = sysfs, root
        self._throttles = Throttles(sysfs)
        self._jtop = JtopReader(jtop, log) if jtop is not None else None

    def look(self) -> BoardFigures:
        """The figures now."""
        mode, load = self._jtop.newest if self._jtop is not None else ("", None)
        return BoardFigures(
            thermal_zones(self._sysfs),
            self._throttles.look(),
            mode or power_mode(self._root),
            gpu_load_percent(self._sysfs) if load is None else load,
        )

    def close(self) -> None:
        """Let go of jetson-stats."""
        if self._jtop is not None:
            self._jtop.stop()


def installed_jtop() -> Callable[[], Any] | None:
    """jetson-stats' client class, None where it is not installed (everywhere but on a Jetson)."""
    try:
        from jtop import jtop  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
    except ImportError:
        return None
    return jtop  # pyright: ignore[reportUnknownVariableType]


class JtopReader:
    """Keeps jetson-stats' newest power mode and GPU load, on a thread of its own: its client waits for the service."""

    def __init__(self, jtop: Callable[[], Any], log: Any) -> None:
        self.newest: tuple[str, float | None] = ("", None)
        self._jtop, self._log = jtop, log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jtop", daemon=True)
        self._thread.start()

    def stop(self, limit_s: float = 2.0) -> None:
        """End the thread; one that the service holds longer is left behind as a daemon."""
        self._stopping.set()
        self._thread.join(limit_s)

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            try:
                with self._jtop() as jetson:
                    while not self._stopping.is_set() and jetson.ok():  # waits for the next sample
                        self.newest = _from_jtop(jetson)
                        attempt = 0
            except Exception as error:  # JtopException or what its socket raises: sysfs serves meanwhile
                if not attempt:
                    self._log.warning("jetson-stats does not answer: sysfs is read", error=str(error))
                attempt += 1
            self.newest = ("", None)
            self._stopping.wait(REOPEN.ceiling_s(attempt))


def _from_jtop(jetson: Any) -> tuple[str, float | None]:
    loads = [gpu.get("status", {}).get("load") for gpu in dict(jetson.gpu).values()]
    known = [float(load) for load in loads if load is not None]
    mode = jetson.nvpmodel
    return "" if mode is None else str(mode), max(known) if known else None
