"""Findings on clock, storage and network for /diagnostics, and the disk's wear for the policy. No ROS here.

`Devices.look` reads files and may run a program, so it is called on a worker thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myrvm_core.clock import MachineClock, Stamp, Trust

from myrvm_system import selftest
from myrvm_system.health import Finding, Level
from myrvm_system.network import NetworkFigures, look
from myrvm_system.storage import Storage, StorageFigures

LOOK_PERIOD_S = 5.0
WEAR_PERIOD_S = 3600.0  # wear changes over months, and the program that is asked for it takes its time
WORN_PERCENT = 80.0
GB = 1e9


@dataclass(frozen=True)
class Line:
    """The line to the server as cloud_bridge last told it; `state` and `error` in the words of CloudStatus."""

    state: str
    error: str = ""

    @property
    def online(self) -> bool:
        """Whether the server answers."""
        return self.state == "ONLINE"


class Devices:
    """Looks at clock, storage, network and the last self-test.

    Args:
        clock: of this machine.
        data: the folder of the machine's data.
        sysfs: `/sys`, or a tree that stands in for it.
        proc: `/proc`, or a tree that stands in for it.
    """

    def __init__(self, clock: MachineClock, data: Path, sysfs: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._clock, self._data, self._proc = clock, data, proc
        # A desk's tree stands in for the board's sensors only: its disk and network are the real ones.
        self._net_sysfs = sysfs if (sysfs / "class/net").is_dir() else Path("/sys")
        self._storage = Storage(data, sysfs if (sysfs / "dev/block").is_dir() else Path("/sys"), proc)
        self._figures = StorageFigures()
        self._looked_s = -WEAR_PERIOD_S

    @property
    def wear_percent(self) -> float | None:
        """Used part of the disk's life, None where it does not tell."""
        return self._figures.wear_percent

    def look(self, line: Line | None) -> list[Finding]:
        """The findings now; `line` is None where cloud_bridge is not heard."""
        now_s = time.monotonic()
        findings = [about_clock(self._clock.now())]
        try:
            with_wear = now_s - self._looked_s >= WEAR_PERIOD_S
            self._figures = self._storage.look(self._figures if not with_wear else None)
            self._looked_s = now_s if with_wear else self._looked_s
            findings.append(about_storage(self._figures))
        except OSError as error:
            findings.append(Finding("storage", Level.ERROR, f"{self._data} cannot be read: {error.strerror}"))
        findings.append(about_network(look(self._net_sysfs, self._proc), line))
        for kind in (selftest.SHORT, selftest.FULL):
            findings.extend(about_selftest(selftest.latest(self._data / "selftest", kind), kind))
        return findings


def about_clock(stamp: Stamp) -> Finding:
    """WARN only where the time is a guess: a clock that nobody has set yet may well be right."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(stamp.time_ns // 1_000_000_000))
    level = Level.WARN if stamp.trust is Trust.GUESSED else Level.OK
    values = {"trust": stamp.trust.name, "since_boot_s": str(stamp.boottime_ns // 1_000_000_000)}
    return Finding("clock", level, f"{shown}, {stamp.trust.value}", values)


def about_storage(figures: StorageFigures) -> Finding:
    """ERROR where the disk takes no writes, WARN where it wears out or its file system has met errors."""
    problems: list[str] = []
    level = Level.WARN
    if figures.read_only:
        problems.append("the file system has become read-only: nothing is kept")
        level = Level.ERROR
    if figures.wear_percent is not None and figures.wear_percent >= WORN_PERCENT:
        problems.append(f"{figures.wear_percent:.0f} % of the disk's life is used")
    if figures.spare:
        problems.append(figures.spare)
    if figures.errors:
        problems.append(f"the file system has met {figures.errors} errors: fsck")
    values = {"disk": figures.disk or "not known", "read_only": str(figures.read_only).lower()}
    if figures.wear_percent is not None:
        values["wear_percent"] = f"{figures.wear_percent:.0f}"
    if figures.written_bytes is not None:
        values["written_since_boot_gb"] = f"{figures.written_bytes / GB:.2f}"
    if problems:
        return Finding("storage", level, "; ".join(problems), values)
    wear = "does not tell its wear" if figures.wear_percent is None else f"{figures.wear_percent:.0f} % of life used"
    return Finding("storage", Level.OK, f"{figures.disk or 'disk not known'}, {wear}", values)


def about_network(figures: NetworkFigures, line: Line | None) -> Finding:
    """The nearest thing that is wrong: the machine serves offline meanwhile, so nothing here is an error."""
    values = {
        "linked": " ".join(figures.linked),
        "unlinked": " ".join(figures.unlinked),
        "default_route": " ".join(figures.routed),
        "server": line.state if line else "not known",
    }
    if line is not None and line.online:
        return Finding(
            "network", Level.OK, f"the server answers through {', '.join(figures.routed) or 'the desk'}", values
        )
    problem = ""
    if not figures.linked:
        problem = "no interface has a link: look at the cable or the modem"
    elif not figures.routed:
        problem = f"{', '.join(figures.linked)} has a link, but there is no default route: DHCP does not answer"
    elif line is not None:
        reasons = {"NETWORK": "name or address not reached", "SERVER": "it fails", "REFUSED": "it refuses this machine",
                   "PROTOCOL": "its answers are not of the contract"}  # fmt: skip
        why = reasons.get(line.error, "no answer yet")
        problem = f"{', '.join(figures.routed)} is up, but the server does not answer: {why}"
    if problem:
        return Finding("network", Level.WARN, f"{problem}; the machine serves offline", values)
    return Finding("network", Level.OK, f"up: {', '.join(figures.linked)}", values)


def about_selftest(latest: Path, kind: str) -> Iterator[Finding]:
    """How the last self-test of a kind ended; nothing where there was none."""
    try:
        report: Any = json.loads(latest.read_text(encoding="utf-8"))
        failed, when = [str(name) for name in report["failed"]], str(report["finished_at"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Finding(f"{kind} self-test", Level.WARN, f"{latest} cannot be read: {error}")
        return
    level = Level.WARN if failed else Level.OK
    yield Finding(f"{kind} self-test", level, f"{when}: {'failed: ' + ', '.join(failed) if failed else 'passed'}")
