"""What an earlier run left behind when it was killed or the power went: found and cleared at a start, and reported.

A launcher (bring-up, `ros2 launch`) puts MYRVM_RUN into the environment of its nodes: its own pid and start time, and
the data folder. A process with our data folder whose launcher has ended is an orphan, whatever its name, and is killed;
one whose launcher lives is another machine on the same data, and nothing is started then.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import field
from datetime import datetime, timezone
from pathlib import Path

from myrvm_core.clock import LinuxKernel
from myrvm_core.errors import SettingsError, StorageError
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from myrvm_core import durable, overlay, paths
from myrvm_system import shared_memory

RUN_VARIABLE = "MYRVM_RUN"
REPORT = "system/start.json"  # in the data folder
END_S = 5.0


@dataclass(frozen=True)
class Found:
    """What a start has found; names are relative to the data folder.

    Attributes:
        at: UTC, by a clock that may not have been set yet.
        boot_id: of the kernel.
        orphans: processes ended, as `<program> <pid>`.
        half_written: files removed.
        sockets: nobody listened; removed.
        shared_memory: files of Fast DDS removed.
        taken_back: versions of the configuration that were on trial when the graph ended.
        problems: what could not be cleared, a line each.
    """

    at: str = ""
    boot_id: str = ""
    orphans: tuple[str, ...] = ()
    half_written: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    shared_memory: tuple[str, ...] = ()
    taken_back: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default_factory=tuple)

    @property
    def counts(self) -> dict[str, int]:
        """For diagnostics."""
        names = ("orphans", "half_written", "sockets", "shared_memory", "taken_back", "problems")
        return {f"start_{name}": len(getattr(self, name)) for name in names}

    def __str__(self) -> str:
        parts = [
            f"{len(self.orphans)} orphans ended{_named(self.orphans)}",
            f"{len(self.half_written)} half-written files removed{_named(self.half_written)}",
            f"{len(self.sockets)} dead sockets{_named(self.sockets)}",
            f"{len(self.shared_memory)} left-over files of shared memory",
            *(f"configuration {version} taken back" for version in self.taken_back),
            *self.problems,
        ]
        return f"from earlier runs: {', '.join(parts)}"


_REPORT = TypeAdapter(Found)


def environment(data: Path) -> dict[str, str]:
    """What this process, as the launcher, puts into the environment of its nodes."""
    return {RUN_VARIABLE: f"{os.getpid()}:{_started(os.getpid())}:{data.resolve()}"}


def clear(data: Path) -> Found:
    """Clear what earlier runs on this data folder have left, write the report and give it.

    Raises:
        SettingsError: another launcher's processes run on this data folder.
    """
    problems: list[str] = []
    orphans = tuple(_end_orphans(data.resolve(), problems))
    # A socket's file goes with its orphan's end, a half-written file is nobody's any more.
    partial = _remove(data, (path for path in data.rglob(f"*{durable.PARTIAL}") if path.is_file()), problems)
    sockets = _remove(data, (path for path in data.rglob("*") if path.is_socket() and not _listens(path)), problems)
    removed = shared_memory.clean().removed
    taken_back = _take_back(data, problems)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    found = Found(now, LinuxKernel().boot_id, orphans, partial, sockets, removed, taken_back, tuple(problems))
    try:
        durable.replace(data / REPORT, _REPORT.dump_json(found, indent=1))
    except OSError as error:  # a full disk keeps nobody from serving what can be served
        return _REPORT.validate_python(
            {**_REPORT.dump_python(found), "problems": (*problems, f"report not written: {error}")}
        )
    return found


def _take_back(data: Path, problems: list[str]) -> tuple[str, ...]:
    """A configuration on trial, which nobody judges any more."""
    try:
        trial = overlay.OverlayFile(data / overlay.FILE).roll_back("the machine was started anew")
    except StorageError as error:
        problems.append(str(error))
        return ()
    return (str(trial.current.version),) if trial else ()


def report(data: Path | None = None) -> Found:
    """What the last start has found; nothing where there is no report."""
    file = (data or paths.data()) / REPORT
    try:
        return _REPORT.validate_json(file.read_bytes())
    except FileNotFoundError:
        return Found()
    except (OSError, ValidationError) as error:
        return Found(problems=(f"{file} cannot be read: {str(error).splitlines()[0]}",))


def _named(names: tuple[str, ...]) -> str:
    return f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""


def _started(pid: int) -> int:
    """Start time of a process in clock ticks since boot (proc(5): field 22), 0 where there is none."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    return 0


def _run_of(pid: int) -> str:
    """MYRVM_RUN in the environment that a process was started with; empty where it cannot be seen."""
    with suppress(OSError):
        prefix = f"{RUN_VARIABLE}=".encode()
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(prefix):
                return os.fsdecode(variable.removeprefix(prefix))
    return ""


def _end_orphans(data: Path, problems: list[str]) -> Iterator[str]:
    orphans: list[tuple[int, int, str]] = []
    for name in os.listdir("/proc"):  # noqa: PTH208  # as in proc(5)
        pid = int(name) if name.isdigit() else 0
        run = _run_of(pid) if pid not in (0, os.getpid()) else ""
        launcher, _, rest = run.partition(":")
        started, _, folder = rest.partition(":")
        if folder != str(data) or not launcher.isdigit() or not _started(pid):
            continue
        if str(_started(int(launcher))) == started:
            if int(launcher) != os.getpid():
                raise SettingsError(
                    f"MYRVM_DATA = {data} is in use: process {pid} ({_program(pid)}), started by process {launcher}"
                )
            continue
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            if _run_of(pid) == run:  # still the same process
                orphans.append((pid, handle, _program(pid)))
            else:
                os.close(handle)
    for _, handle, _ in orphans:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    end_s = time.monotonic() + END_S
    for pid, handle, program in orphans:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(max(0.0, end_s - time.monotonic()) * 1000):
            problems.append(f"process {pid} ({program}) of an earlier run does not end")
        os.close(handle)
        yield f"{program} {pid}"


def _program(pid: int) -> str:
    """Name of the program or script that a process began with, its first 15 letters (proc(5): comm)."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "?"


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # busy, of another kind, too long a name: not known to be dead
            return True
    return True


def _remove(data: Path, files: Iterator[Path], problems: list[str]) -> tuple[str, ...]:
    removed: list[str] = []
    try:
        for path in list(files):
            durable.remove(path)
            removed.append(str(path.relative_to(data)))
    except OSError as error:
        problems.append(str(error))
    return tuple(sorted(removed))
