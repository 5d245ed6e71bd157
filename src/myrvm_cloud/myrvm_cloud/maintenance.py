"""The maintenance window: planned from afar, kept on disk, begins and ends by the clock. No I/O but its file."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path

from myrvm_core.errors import StorageError
from myrvm_core.machine_mode import Mode
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from myrvm_cloud.command_check import Moment
from myrvm_core import durable

BETWEEN = (Mode.UNKNOWN, Mode.STARTING, Mode.STOPPING)  # what the machine is to do is not seen now
FILE = "commands/maintenance.json"  # in the data folder


class Step(Enum):
    """What is due."""

    BEGIN = "begin"
    END = "end"


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Window:
    """When, s since the epoch, and why; `resume`: whether the machine served when it began, None before."""

    begins: float
    ends: float
    reason: str
    who: str
    begun: bool = False
    resume: bool | None = None


_ADAPTER = TypeAdapter(Window)


class Maintenance:
    """The window that is planned or open. `problem` says what was wrong with its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem = ""
        self.window: Window | None = None
        try:
            self.window = _ADAPTER.validate_json(path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:
            self.problem = f"{path} cannot be read, no window is planned: {str(error).splitlines()[0]}"

    def decide(self, moment: Moment, mode: Mode) -> Step | None:
        """What is due now. While the time is not known nothing begins; a window ends that is over for certain."""
        window = self.window
        if window is None or mode in BETWEEN:
            return None
        if moment.epoch_s >= window.ends:
            return Step.END
        if not window.begun and moment.known and moment.epoch_s >= window.begins:
            return Step.BEGIN
        return None

    def plan(self, window: Window) -> None:
        """Keep a window in the place of the one that was there; one that is open stays so.

        Raises:
            StorageError: the disk does not take it.
        """
        before = self.window
        if before is not None:
            window = replace(window, begun=before.begun, resume=before.resume)
        self._write(window)

    def beginning(self, resume: bool) -> None:
        """Whether to serve again afterwards; written first, so that a crash in between closes nothing for good.

        Raises:
            StorageError: the disk does not take it.
        """
        assert self.window is not None
        if self.window.resume is None:
            self._write(replace(self.window, resume=resume))

    def begun(self) -> None:
        """The machine is out of service for it. Raises StorageError."""
        assert self.window is not None
        self._write(replace(self.window, begun=True))

    def cancel(self) -> None:
        """It ends now. Raises StorageError."""
        if self.window is not None:
            self._write(replace(self.window, ends=0.0))

    def resumes(self, mode: Mode) -> bool:
        """Whether the machine is to serve again at its end: it did before, and no technician works at it."""
        return self.window is not None and bool(self.window.resume) and mode is Mode.PAUSED

    def clear(self) -> None:
        """There is none any more. Raises StorageError."""
        try:
            durable.remove(self._path)
        except FileNotFoundError:
            pass  # its folder was never made
        except OSError as error:
            raise StorageError(f"{self._path} cannot be removed: {error}") from error
        self.window = None

    def _write(self, window: Window) -> None:
        try:
            durable.replace(self._path, _ADAPTER.dump_json(window))
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error}") from error
        self.window = window
