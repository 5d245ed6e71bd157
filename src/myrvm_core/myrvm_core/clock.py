"""The time of day on a machine whose clock has no battery: it never stamps a deposit with 1970.

The last known time is kept on disk (the floor). A start with a clock below it counts on from the floor, and says that
the time is a guess. Each stamp also carries CLOCK_BOOTTIME and the boot's id, so that a time told before the clock was
set can be corrected afterwards, in the same boot. No ROS here; the kernel is an argument.
"""

from __future__ import annotations

import ctypes
import time
import zlib
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from myrvm_core import durable, paths
from myrvm_core.deposit_record import DepositRecord
from myrvm_core.errors import StorageError

EARLIEST_NS = 1_735_689_600_000_000_000  # 2025-01-01: no machine ran this software before
SAVE_PERIOD_S = 180.0
LONGEST_OFF_NS = 366 * 86_400_000_000_000  # a machine without power; a clock that says more is not believed
TOLERANCE_NS = 1_000_000_000  # two clocks are never read at quite the same moment: less than this is no jump
STA_UNSYNC = 0x0040  # adjtimex(2)
BOOT_ID = "proc/sys/kernel/random/boot_id"
TIMESYNCD_MARKER = "run/systemd/timesync/synchronized"  # systemd-timesyncd.service(8): made at the first answer


class Kernel(Protocol):
    """What the clock is told by the kernel."""

    @property
    def boot_id(self) -> str:
        """The id of this boot, empty where it cannot be read."""
        ...

    def time_ns(self) -> int:
        """CLOCK_REALTIME."""
        ...

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME: since boot, suspended time included, never set."""
        ...

    def synchronised(self) -> bool:
        """Whether somebody who knows the time (NTP, PTP, GPS) has set the clock in this boot."""
        ...


class _Timex(ctypes.Structure):
    """`struct timex` as far as `status` (adjtimex(2)), with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("frequency", ctypes.c_long),
        ("maximum_error", ctypes.c_long), ("estimated_error", ctypes.c_long), ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )  # fmt: skip


def kernel_says_synchronised() -> bool:
    """Whether STA_UNSYNC is clear; False also where the kernel does not answer."""
    timex = _Timex()  # modes 0: only asks
    try:
        answered: int = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return False
    return answered >= 0 and not timex.status & STA_UNSYNC


class LinuxKernel:
    """This machine's kernel. `root` holds `proc` and `run`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._marker = root / TIMESYNCD_MARKER
        try:
            self._boot_id = (root / BOOT_ID).read_text().strip()
        except (OSError, UnicodeDecodeError):
            self._boot_id = ""

    @property
    def boot_id(self) -> str:
        """See `Kernel`."""
        return self._boot_id

    def time_ns(self) -> int:
        """See `Kernel`."""
        return time.time_ns()

    def boottime_ns(self) -> int:
        """See `Kernel`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def synchronised(self) -> bool:
        """See `Kernel`. The marker holds on when the kernel's own flag ends, hours after the last answer."""
        return kernel_says_synchronised() or self._marker.exists()


class Trust(Enum):
    """How far a time of day can be trusted."""

    SYNCHRONISED = "synchronised"
    UNSYNCHRONISED = "not synchronised"
    GUESSED = "counted on from the last known time"


@dataclass(frozen=True)
class Stamp:
    """One moment on two clocks: `time_ns` since the epoch, `boottime_ns` since the boot `boot_id`."""

    time_ns: int
    boottime_ns: int
    boot_id: str
    trust: Trust

    @property
    def synchronised(self) -> bool:
        """Whether `time_ns` can be trusted."""
        return self.trust is Trust.SYNCHRONISED


@checked_dataclass(frozen=True)
class _Floor:
    time_ns: int
    boottime_ns: int
    boot_id: str
    known_ns: int = 0  # what somebody who knows has told last, counted on to this moment; 0: nobody ever has

    def crc(self) -> int:
        known = f" {self.known_ns}" if self.known_ns else ""
        return zlib.crc32(f"{self.time_ns} {self.boottime_ns} {self.boot_id}{known}".encode())


@checked_dataclass(frozen=True)
class _File:
    floor: _Floor
    crc: int


_ADAPTER = TypeAdapter(_File)


class MachineClock:
    """Tells the time. It never jumps back, unless a synchronised clock says that it was ahead.

    Args:
        kernel: the sources.
        file: holds the floor; need not exist. One process writes it (`save`), others only read it, when they start.
    """

    def __init__(self, kernel: Kernel, file: Path) -> None:
        self._kernel, self._file = kernel, file
        self.problem = ""
        self._server_epoch_ns: int | None = None
        self._floor = self._read() or _Floor(EARLIEST_NS, 0, "")

    def now(self) -> Stamp:
        """The present moment."""
        kernel, floor = self._kernel, self._floor
        boottime_ns, time_ns = kernel.boottime_ns(), kernel.time_ns()
        # In another boot at least this boot's age has passed since the floor was written.
        passed_ns = boottime_ns - (floor.boottime_ns if floor.boot_id == kernel.boot_id else 0)
        passed_ns = max(passed_ns, 0)
        least_ns = max(floor.time_ns + passed_ns, EARLIEST_NS)
        if time_ns >= EARLIEST_NS and kernel.synchronised():
            trust = Trust.SYNCHRONISED
        elif time_ns >= max(least_ns - TOLERANCE_NS, EARLIEST_NS):
            trust = Trust.UNSYNCHRONISED
        else:
            time_ns, trust = least_ns, Trust.GUESSED
        known_ns = self.known_ns() or (floor.known_ns + passed_ns if floor.known_ns else 0)
        self._floor = _Floor(time_ns, boottime_ns, kernel.boot_id, known_ns)
        return Stamp(time_ns, boottime_ns, kernel.boot_id, trust)

    def raise_to(self, time_ns: int) -> None:
        """It is later than `time_ns`: something on disk bears that time."""
        if not self.now().synchronised and time_ns > self._floor.time_ns:
            self._floor = replace(self._floor, time_ns=time_ns)

    def hear_server(self, offset_ns: int) -> bool:
        """A server has told how far its clock is ahead of the kernel's. True where that was the first time."""
        first, epoch_ns = self._server_epoch_ns is None, self._kernel.time_ns() + offset_ns
        if epoch_ns < EARLIEST_NS:
            return False
        self._server_epoch_ns = epoch_ns - self._kernel.boottime_ns()
        return first

    def known_ns(self) -> int | None:
        """The time of day as a server has told this process, or who has set the kernel's clock; None where nobody has.

        The server comes first: it judges by its own clock what this machine has issued.
        """
        if self._server_epoch_ns is not None:
            return self._server_epoch_ns + self._kernel.boottime_ns()
        time_ns = self._kernel.time_ns()
        return time_ns if time_ns >= EARLIEST_NS and self._kernel.synchronised() else None

    def dated_ns(self) -> int | None:
        """The time of day to put on what others will judge by their clocks; None where nobody ever told it.

        While it is not known it is counted on from when it was, also over a start: so it is too early by the time
        without power, never too late. A kernel's clock that is ahead of that is believed up to `LONGEST_OFF_NS`.
        """
        self.now()
        if not self._floor.known_ns or self.known_ns() is not None:
            return self._floor.known_ns or None
        kernel_ns = self._kernel.time_ns()
        return max(self._floor.known_ns, kernel_ns if kernel_ns <= self._floor.known_ns + LONGEST_OFF_NS else 0)

    def epoch_ns(self, offset_ns: int | None = None) -> int | None:
        """The time of day at which CLOCK_BOOTTIME was zero; None while nobody knows.

        Args:
            offset_ns: of a server's clock to the kernel's, believed while the kernel's is not synchronised.
        """
        boottime_ns, time_ns = self._kernel.boottime_ns(), self._kernel.time_ns()
        if not self._kernel.synchronised():
            if offset_ns is None:
                return None
            time_ns += offset_ns
        return time_ns - boottime_ns if time_ns >= EARLIEST_NS else None

    def kernel_time_of(self, boottime_ns: int, boot_id: str) -> int | None:
        """What the kernel's clock, as it is set now, would have told at a moment; 0 for a moment before this boot.

        None where the moment's boot is not known.
        """
        if not boot_id or not self._kernel.boot_id:
            return None
        if boot_id != self._kernel.boot_id:
            return 0
        return self._kernel.time_ns() - (self._kernel.boottime_ns() - boottime_ns)

    def save(self) -> None:
        """Put the present on disk as the floor of the next start.

        Raises:
            StorageError: the disk does not take it.
        """
        self.now()
        try:
            durable.replace(self._file, _ADAPTER.dump_json(_File(self._floor, self._floor.crc())))
        except OSError as error:
            raise StorageError(f"clock file {self._file} cannot be written: {error}") from error

    def _read(self) -> _Floor | None:
        """The floor on disk; None, and `problem`, where it is not as it was written."""
        try:
            kept = _ADAPTER.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            self.problem = f"clock file {self._file} cannot be read: {str(error).splitlines()[0]}"
            return None
        if kept.crc != kept.floor.crc():
            self.problem = f"clock file {self._file} is damaged: its checksum is {kept.floor.crc()}, it says {kept.crc}"
            return None
        return kept.floor


def stamped(record: DepositRecord, stamp: Stamp) -> DepositRecord:
    """The record of a deposit that is accepted at this moment."""
    return replace(
        record,
        accepted_at_ns=stamp.time_ns,
        accepted_monotonic_ns=stamp.boottime_ns,
        boot_id=stamp.boot_id,
        clock_synchronised=stamp.synchronised,
    )


def machine_clock() -> MachineClock:
    """The clock of this machine, its floor in `clock.json` of the data folder."""
    return MachineClock(LinuxKernel(), paths.data() / "clock.json")
