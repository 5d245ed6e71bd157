"""The disk that holds the machine's data: how much of its life is used, whether it still takes writes. No ROS here.

eMMC and SD: `life_time` and `pre_eol_info` (JEDEC JESD84-B51, EXT_CSD 267 to 269). NVMe: `percentage_used` of the SMART
log through the `nvme` program, where it is installed and permitted. Everything else: what was written since boot.
Tried with trees of files, not on a Jetson.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myrvm_core.kernel_files import hexadecimal, number, text

SECTOR_BYTES = 512  # of the kernel's counters, whatever the disk's own sectors are
NVME_TIMEOUT_S = 5.0
PRE_EOL = {1: "normal", 2: "80 % of the spare blocks are used", 3: "90 % of the spare blocks are used"}


@dataclass(frozen=True)
class StorageFigures:
    """One look. None or empty where the disk does not tell.

    `wear_percent` is the used part of the life that the maker promises, above 100 beyond it; `spare` is not empty where
    the spare blocks run out; `errors` counts errors that the file system has met.
    """

    disk: str = ""
    wear_percent: float | None = None
    spare: str = ""
    written_bytes: int | None = None
    read_only: bool = False
    errors: int = 0


class Storage:
    """Looks at the disk under a folder.

    Args:
        folder: somewhere on it.
        sysfs: `/sys`, or a tree that stands in for it.
        proc: `/proc`, or a tree that stands in for it.
        device: number of the folder's file system as `major:minor`; asked of the kernel where it is not given.
    """

    def __init__(
        self, folder: Path, sysfs: Path = Path("/sys"), proc: Path = Path("/proc"), device: str | None = None
    ) -> None:
        self._folder, self._sysfs, self._proc, self._device = folder, sysfs, proc, device

    def look(self, wear_of: StorageFigures | None = None) -> StorageFigures:
        """The figures now. May take as long as the `nvme` program does (5 s at most).

        Args:
            wear_of: figures of an earlier look whose wear still holds; it is asked again where they are not given.

        Raises:
            OSError: the folder is gone.
        """
        device = self._device or _device_of(self._folder)
        partition = (self._sysfs / "dev/block" / device).resolve()
        disk = _disk_of(partition)
        if wear_of is not None:
            wear_percent, spare = wear_of.wear_percent, wear_of.spare
        else:
            wear_percent, spare = _wear(disk) if disk else (None, "")
        return StorageFigures(
            disk.name if disk else "",
            wear_percent,
            spare,
            _written_bytes(disk) if disk else None,
            self._read_only(device),
            number(self._sysfs / "fs/ext4" / partition.name / "errors_count") or 0,
        )

    def _read_only(self, device: str) -> bool:
        """Whether the file system, or the mount that the folder is seen through, is read-only (proc(5), mountinfo)."""
        nearest: tuple[int, bool] = (0, False)
        for line in text(self._proc / "self/mountinfo").splitlines():
            fields = line.split()
            if len(fields) < 10 or fields[2] != device:
                continue
            point = Path(fields[4].replace("\\040", " "))
            if self._folder == point or point in self._folder.parents:
                read_only = "ro" in fields[5].split(",") or "ro" in fields[-1].split(",")
                nearest = max(nearest, (len(point.parts), read_only))
        return nearest[1]


def _device_of(folder: Path) -> str:
    device = folder.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def _disk_of(partition: Path) -> Path | None:
    """The disk that a partition, or what was built upon one (LUKS, LVM), stands on."""
    for _ in range(8):
        if below := sorted(partition.glob("slaves/*")):
            partition = below[0].resolve()
        elif (partition / "partition").exists():
            partition = partition.parent
        else:
            return partition if partition.is_dir() else None
    return None


def _wear(disk: Path) -> tuple[float | None, str]:
    # Two kinds of cells; 0x01: up to 10 % used, .. 0x0A: up to 100 %, 0x0B: more. 0x00: not told.
    steps = [hexadecimal(word) for word in text(disk / "device/life_time").split()]
    wear_percent = 10.0 * max(steps) if any(steps) else None
    level = hexadecimal(text(disk / "device/pre_eol_info"))
    if wear_percent is None and disk.name.startswith("nvme"):
        wear_percent = _nvme_percentage_used(disk.name)
    return wear_percent, PRE_EOL.get(level, "") if level > 1 else ""


def _nvme_percentage_used(disk: str) -> float | None:
    program = shutil.which("nvme")
    if program is None:
        return None
    command = [program, "smart-log", f"/dev/{disk}", "--output-format=json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NVME_TIMEOUT_S, check=True)
        log: Any = json.loads(done.stdout)
        return float(log.get("percentage_used", log.get("percent_used")))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, AttributeError):
        return None  # not permitted, or another version's words: the disk does not tell


def _written_bytes(disk: Path) -> int | None:
    fields = text(disk / "stat").split()  # Documentation/block/stat.rst: the seventh is sectors written
    return int(fields[6]) * SECTOR_BYTES if len(fields) > 6 and fields[6].isdecimal() else None
