"""What commands must not forget: the counters that were used, the command under way, the outcomes not yet confirmed.

One file, replaced as a whole before a command is executed and after. A start that finds a command under way does not
execute it again. A file that is lost or damaged would let old commands in again: the counters then come from the audit
log.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from myrvm_core.errors import StorageError
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from myrvm_cloud.command import Outcome
from myrvm_core import durable

FILE = "commands/journal.json"  # in the data folder
OUTCOMES = 200  # that wait for the server; the oldest go
KEYS = 200  # whose counters are kept
_STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=_STRICT)
class Running:
    """The command under way: enough to tell how it ended if we do not see it."""

    digest: str
    command_id: str
    kind: str
    node: str
    boot_id: str


@checked_dataclass(frozen=True, config=_STRICT)
class Journal:
    """What the file says; `counters` by thumbprint, `ended` the digests of those that ended, newest last."""

    counters: dict[str, int] = field(default_factory=dict)
    running: Running | None = None
    outcomes: tuple[Outcome, ...] = ()
    ended: tuple[str, ...] = ()
    dropped: int = 0  # outcomes that nobody fetched in time


@checked_dataclass(frozen=True, config=_STRICT)
class _File:
    journal: Journal
    crc: int


_ADAPTER = TypeAdapter(_File)
_JOURNAL = TypeAdapter(Journal)


@dataclass
class JournalFile:
    """The file and what it says. `problem` says what was wrong with it."""

    path: Path
    problem: str = ""
    journal: Journal = field(default_factory=Journal)

    def load(self, recovered: Iterable[Mapping[str, Any]]) -> None:
        """Read it.

        Args:
            recovered: lines of the audit log, looked at where the file is not there or not as it was written.
        """
        try:
            kept = _ADAPTER.validate_json(self.path.read_bytes())
            if kept.crc == _crc(kept.journal):
                self.journal = kept.journal
                return
            self.problem = f"{self.path} is damaged"
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:
            self.problem = f"{self.path} cannot be read: {str(error).splitlines()[0]}"
        counters: dict[str, int] = {}
        for entry in recovered:
            for print_, counter in (entry.get("counters") or {}).items():
                counters[print_] = max(counters.get(print_, 0), counter)
        self.journal = Journal(counters=counters)
        if self.problem:
            self.problem += "; the counters of the audit log count"

    def spend(self, counters: Mapping[str, int], running: Running | None, *outcomes: Outcome) -> None:
        """Use counters up, for a command that begins or for one that is refused.

        Raises:
            StorageError: the disk does not take it: nothing may be executed.
        """
        known = self.journal.counters
        merged = {**known, **{key: max(known.get(key, 0), counter) for key, counter in counters.items()}}
        if len(merged) > KEYS:
            raise StorageError(f"counters of {len(merged)} keys; allowed: {KEYS}")
        self._write(self._with(replace(self.journal, counters=merged, running=running), outcomes))

    def end(self, outcome: Outcome) -> None:
        """The command under way has ended. Raises StorageError."""
        self._write(self._with(replace(self.journal, running=None), (outcome,)))

    def confirm(self, digests: Iterable[str]) -> None:
        """The server has these outcomes. Raises StorageError."""
        known = set(digests)
        left = tuple(outcome for outcome in self.journal.outcomes if outcome.digest not in known)
        if left != self.journal.outcomes:
            self._write(replace(self.journal, outcomes=left))

    def _with(self, journal: Journal, outcomes: tuple[Outcome, ...]) -> Journal:
        waiting = (*journal.outcomes, *outcomes)
        lost = max(0, len(waiting) - OUTCOMES)
        ended = (*journal.ended, *(outcome.digest for outcome in outcomes))[-OUTCOMES:]
        return replace(journal, outcomes=waiting[lost:], ended=ended, dropped=journal.dropped + lost)

    def _write(self, journal: Journal) -> None:
        try:
            durable.replace(self.path, _ADAPTER.dump_json(_File(journal, _crc(journal))))
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error}") from error
        self.journal = journal


def _crc(journal: Journal) -> int:
    return zlib.crc32(_JOURNAL.dump_json(journal))
