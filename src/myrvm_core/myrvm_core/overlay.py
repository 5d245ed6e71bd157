"""Parameters changed from afar: one file in the data folder, read after all parameter files, changed as a whole.

The file holds what counts now and what counted before. While a change is on trial the file says so: whoever finds that
at a start goes back (`OverlayFile.roll_back`), because the one who was to judge the trial has ended. A file that is not
as it was written counts as none: the machine runs as its parameter files say, and `problem` tells it.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from myrvm_core import durable, paths
from myrvm_core.errors import StorageError

FILE = "configuration/overlay.json"  # in the data folder
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Value = bool | int | float | str | list[str]


@dataclass(frozen=True, config=_STRICT)
class Overlay:
    """One version of what was changed.

    Attributes:
        version: counts up with each change, also over those that were taken back.
        parameters: by node, then by dotted name.
        command_id: of the command that made it.
        by: the keys that signed it.
        at_s: when, s since the epoch as the machine knew it.
    """

    version: int = Field(default=0, ge=0)
    parameters: dict[str, dict[str, Value]] = Field(default_factory=dict)
    command_id: str = ""
    by: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, config=_STRICT)
class State:
    """What the file says; `note` tells how the last change ended."""

    current: Overlay = Overlay()
    previous: Overlay = Overlay()
    on_trial: bool = False
    newest: int = Field(default=0, ge=0)  # version of the newest change, one that was taken back too
    note: str = ""

    def rolled_back(self, why: str) -> State:
        """Before the change that is on trial."""
        note = f"version {self.current.version} taken back: {why}"
        return replace(self, current=self.previous, on_trial=False, note=note[:500])


@dataclass(frozen=True, config=_STRICT)
class _File:
    state: State
    crc: int


_ADAPTER = TypeAdapter(_File)
_STATE = TypeAdapter(State)


class OverlayFile:
    """The file. `problem` says what was wrong with it when it was read."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or paths.data() / FILE
        self._back = self._path.with_name(f"{self._path.stem}.before.json")  # written before each trial
        self.problem = ""

    def read(self) -> State:
        """What was written last; nothing changed where there is no file, or one that is damaged."""
        self.problem = ""
        try:
            kept = _ADAPTER.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return State()
        except (OSError, ValidationError) as error:
            self.problem = f"{self._path} cannot be read, nothing in it counts: {str(error).splitlines()[0]}"
            return State()
        if kept.crc != _crc(kept.state):
            self.problem = f"{self._path} is damaged, nothing in it counts: its checksum is not {kept.crc}"
            return State()
        return kept.state

    def begin_trial(self, trial: State) -> None:
        """Put a change on trial, its way back on disk first.

        Raises:
            StorageError: the disk does not take it; what was before counts.
        """
        self._replace(self._back, trial.rolled_back("it took no room on the disk to say why"))
        self._replace(self._path, trial)

    def take_back(self, trial: State, why: str) -> None:
        """End a trial: what was before counts. It needs no room: where the disk has none, `why` is left out.

        Raises:
            StorageError: the disk changes nothing at all any more.
        """
        try:
            self.write(trial.rolled_back(why))
        except StorageError as error:
            try:
                durable.rename(self._back, self._path)
            except OSError:
                raise error from None

    def write(self, state: State) -> None:
        """Replace the file.

        Raises:
            StorageError: the disk does not take it.
        """
        self._replace(self._path, state)

    def _replace(self, path: Path, state: State) -> None:
        try:
            durable.replace(path, _ADAPTER.dump_json(_File(state, _crc(state)), indent=1))
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error}") from error

    def roll_back(self, why: str) -> State | None:
        """End a trial that nobody judges any more; what was taken back, None where nothing was on trial.

        Raises:
            StorageError: the disk does not take it.
        """
        state = self.read()
        if not state.on_trial:
            return None
        self.take_back(state, why)
        return state


def summary() -> tuple[str, bool]:
    """What counts on this machine in a few words, and whether it is well: a file that is damaged is not."""
    file = OverlayFile()
    state = file.read()
    if file.problem:
        return file.problem, False
    version = f"version {state.current.version}" if state.current.version else "as installed"
    return f"{version}, on trial" if state.on_trial else version, True


def given(node: str, file: OverlayFile | None = None) -> dict[str, Any]:
    """What was changed of a node, by dotted name."""
    return dict((file or OverlayFile()).read().current.parameters.get(node, {}))


def _crc(state: State) -> int:
    return zlib.crc32(_STATE.dump_json(state))
