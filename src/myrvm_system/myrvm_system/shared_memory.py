"""Files that Fast DDS left in /dev/shm: a killed process cannot remove its own, and they add up to a full memory.

Only files that no living process maps or holds open are removed: other graphs of this machine are never touched.
A process of another user, or of a container that shares /dev/shm but not the process table, cannot be seen from here:
files of another user are left alone; give containers a /dev/shm of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
SECOND_LOOK_S = 0.2
PREFIXES = ("fastrtps_", "sem.fastrtps_", "fastdds_", "sem.fastdds_")


@dataclass(frozen=True)
class Cleaned:
    """What a cleaning found: names removed, their bytes, how many files living processes use."""

    removed: tuple[str, ...]
    removed_bytes: int
    in_use: int

    def __str__(self) -> str:
        return (
            f"shared memory: {len(self.removed)} left-over files removed ({self.removed_bytes / 1e6:.1f} MB), "
            f"{self.in_use} in use"
        )


def clean(folder: Path = SHARED_MEMORY, processes: Path = Path("/proc")) -> Cleaned:
    """Remove our user's Fast DDS files that no living process uses."""
    files = [path for path in _files(folder) if _owned(path)]
    used: set[str] = set()
    if files:
        # Twice: a process that is just making a file closes it before it maps it, and one look may fall in between.
        used |= {_resource(name) for name in _used(folder, processes)}
        time.sleep(SECOND_LOOK_S)
        used |= {_resource(name) for name in _used(folder, processes)}
    removed: list[str] = []
    removed_bytes = 0
    for path in files:
        if _resource(path.name) in used:
            continue
        try:
            size = path.stat().st_blocks * 512
            path.unlink()
        except FileNotFoundError:
            continue  # its owner was quicker
        removed.append(path.name)
        removed_bytes += size
    return Cleaned(tuple(sorted(removed)), removed_bytes, len(files) - len(removed))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(PREFIXES)] if folder.is_dir() else []


def _resource(name: str) -> str:
    """What a file belongs to: a port's mutex is mapped only while the port is opened, so its port speaks for it."""
    return name.removeprefix("sem.").removesuffix("_mutex").removesuffix("_el")


def _owned(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def _used(folder: Path, processes: Path) -> Iterator[str]:
    """Names of the files in `folder` that any visible process maps or holds open."""
    prefix = f"{folder}/"
    for process in processes.iterdir():
        if not process.name.isdigit():
            continue
        try:
            for line in (process / "maps").read_text(errors="replace").splitlines():
                if prefix in line:
                    yield line.partition(prefix)[2].removesuffix(" (deleted)")
            for descriptor in (process / "fd").iterdir():
                target = str(descriptor.readlink())
                if target.startswith(prefix):
                    yield target.removeprefix(prefix)
        except OSError:  # it has ended, or is another user's: that one cannot use our files
            continue
