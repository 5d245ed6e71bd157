"""The audit log: what was ordered from afar and what became of it. Appended only, each line holds the hash of the last.

JSON lines in `audit-<first sequence>.jsonl`; a line is canonical JSON (RFC 8785) with `sequence`, `previous` (SHA-256
of the line before, without its end), `time`, `kind` and facts. A checkpoint is a line with a document (kind
`rvm-audit`) that the machine's key has signed over the line before it; it comes first in each file, every
`CHECKPOINT_LINES` lines and at the close, and its document is kept beside the log as `head`. So a change inside is seen
by the chain, a cut of the end by the head, down to the lines since the last checkpoint: a cut of these alone is seen
only by whoever kept an `Anchor` (every outcome told to the server has one). Who has the machine's key can write another
history.

A line is on disk before the call returns. One that a power cut has torn is cut off at the next opening, which is noted.
A full disk takes none: `StorageError`, and the file is as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from myrvm_core.errors import SignatureError, StorageError
from myrvm_core.signing import KeyRing, PublicKey, SigningKey, canonical, thumbprint, verify

from myrvm_core import durable

KIND = "rvm-audit"
CHECKPOINT = "checkpoint"
HEAD = "head"
CHECKPOINT_LINES = 16
FILE_BYTES = 1_000_000
FILES = 20
LINE_BYTES = 32_768
FIRST = "0" * 64  # hash before the first line
NOTED = {"shortened": "its end was cut", "damaged": "its end was damaged"}


@dataclass(frozen=True)
class Head:
    """A line of the log: its number, from 1, and its hash."""

    sequence: int = 0
    hash: str = FIRST


class AuditLog:
    """The log of a folder, for the one process that writes it.

    Args:
        folder: made where it is missing.
        key: of the machine.
        now: time of day, s since the epoch, and whether it can be trusted.
        file_bytes: a file that is larger is followed by the next.
        files: so many are kept, the oldest go.

    Raises:
        StorageError: the folder cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        key: SigningKey,
        now: Callable[[], tuple[float, bool]],
        file_bytes: int = FILE_BYTES,
        files: int = FILES,
    ) -> None:
        self._folder, self._key, self._now = folder, key, now
        self._file_bytes, self._files = file_bytes, files
        self._unsigned = 0
        self._lock = threading.Lock()
        self.head = Head()
        try:
            durable.make_folder(folder)
            self._open()
        except OSError as error:
            raise StorageError(f"audit log {folder} cannot be used: {error}") from error

    def append(self, kind: str, facts: Mapping[str, Any]) -> Head:
        """Write a line; it is on disk when this returns.

        Args:
            kind: what happened.
            facts: what JSON can say; names other than those of the line itself.

        Raises:
            StorageError: the disk does not take it; the log is as it was.
        """
        with self._lock:
            try:
                if self._size >= self._file_bytes:
                    self._next_file()
                self._write(kind, facts)
                head = self.head
                if self._unsigned >= CHECKPOINT_LINES:
                    self._checkpoint()
            except OSError as error:
                raise StorageError(f"audit log {self._folder} cannot be written: {error}") from error
            return head

    def close(self) -> None:
        """Sign what is there.

        Raises:
            StorageError: the disk does not take it.
        """
        with self._lock:
            try:
                self._sign()
            except OSError as error:
                raise StorageError(f"audit log {self._folder} cannot be written: {error}") from error

    def _sign(self) -> None:
        if self._unsigned:
            self._checkpoint()

    def _open(self) -> None:
        """Go on where the log ends; note what is wrong with its end."""
        files, cut, whole = log_files(self._folder), b"", True
        while files:
            self._path = files[-1]
            content = self._path.read_bytes()
            end = _end(content)
            cut = content[end.at :] + cut
            if end.head is not None:
                self.head, self._unsigned, self._size, whole = end.head, end.unsigned, end.at, end.whole
                break
            durable.remove(files.pop())  # nothing of it is whole
        found, signed = self.head, read_head(self._folder, self._key.public)
        if not files:
            self._path, self._size = self._name(1), 0
            self._write("begun", {"key": self._key.public})
        elif cut:
            os.truncate(self._path, self._size)
        if not whole:
            self._next_file()
        if cut:
            self._write("healed", {"bytes": len(cut), "sha256": hashlib.sha256(cut).hexdigest()})
        if isinstance(signed, Head) and signed.sequence > found.sequence:
            self._write("shortened", {"signed": signed.sequence, "found": found.sequence})
        if isinstance(signed, str) or not whole:
            self._write("damaged", {"problem": signed if isinstance(signed, str) else "a line inside"})
        if not files or cut or not whole or signed is None or isinstance(signed, str) or signed != found:
            self._sign()

    def _next_file(self) -> None:
        self._sign()
        self._path, self._size = self._name(self.head.sequence + 1), 0
        self._checkpoint()
        durable.sync_folder(self._folder)
        durable.remove(*log_files(self._folder)[: -self._files])

    def _name(self, sequence: int) -> Path:
        return self._folder / f"audit-{sequence:012d}.jsonl"

    def _checkpoint(self) -> None:
        claims = {"sequence": self.head.sequence, "hash": self.head.hash}
        document = self._key.sign(claims, KIND)
        self._write(CHECKPOINT, {"document": document})
        durable.replace(self._folder / HEAD, document.encode())
        self._unsigned = 0

    def _write(self, kind: str, facts: Mapping[str, Any]) -> None:
        epoch_s, trusted = self._now()
        line = canonical(
            {
                **facts, "sequence": self.head.sequence + 1, "previous": self.head.hash,
                "time": round(epoch_s, 3), "time_known": trusted, "kind": kind,
            }
        )  # fmt: skip
        if len(line) >= LINE_BYTES:
            raise ValueError(f"a line of {len(line)} bytes; allowed: {LINE_BYTES}")
        new = not self._path.exists()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, line + b"\n")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        if new:
            durable.sync_folder(self._folder)
        self._size = before + len(line) + 1
        self._unsigned += 1
        self.head = Head(self.head.sequence + 1, hashlib.sha256(line).hexdigest())


def log_files(folder: Path) -> list[Path]:
    """The files of a log, oldest first."""
    return sorted(folder.glob("audit-*.jsonl"))


def entries(folder: Path) -> Iterator[dict[str, Any]]:
    """Every line that can be read, oldest first; whether the chain holds is `verify_log`'s to say.

    Raises:
        StorageError: a file cannot be read.
    """
    for file in log_files(folder):
        for line in _lines(file):
            if (entry := _entry(line)) is not None:
                yield entry


def read_head(folder: Path, public: str) -> Head | str | None:
    """The signed head beside the log; a line on what is wrong with it, None where there is none."""
    try:
        document = (folder / HEAD).read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        return f"the signed head cannot be read: {error}"
    return _signed(document, public)


@dataclass
class Report:
    """What `verify_log` has found; the log is whole where there are no `problems`."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: int = 0
    first: int = 0
    head: Head = Head()
    signed: int = 0  # the newest line that is vouched for by a signature


def verify_log(folder: Path, public: str, anchor: Head | None = None, files: int = FILES) -> Report:
    """Check chain, signatures and end of a log.

    Args:
        folder: of the log.
        public: the machine's public key, as in a key ring.
        anchor: a line that somebody else has kept, such as the server.
        files: so many are kept.

    Raises:
        StorageError: a file cannot be read.
    """
    report = Report()
    head = read_head(folder, public)
    wanted = {one.sequence: one.hash for one in (head, anchor) if isinstance(one, Head)}
    names = log_files(folder)
    for file in names:
        for number, line in enumerate(_lines(file), start=1):
            entry = _entry(line)
            where = f"{file.name}:{number}"
            if entry is None:
                report.problems.append(f"{where}: no line of the log")
                continue
            _check_line(report, entry, where, public)
            report.head = Head(entry["sequence"], hashlib.sha256(line.rstrip(b"\n")).hexdigest())
            report.lines += 1
            report.first = report.first or entry["sequence"]
            if wanted.pop(entry["sequence"], report.head.hash) != report.head.hash:
                report.problems.append(f"{where}: line {entry['sequence']} is not the one that was signed or told")
    if report.first > 1 and len(names) < files:
        report.problems.append(f"begins at line {report.first} in {len(names)} files: older files were removed")
    elif report.first > 1:
        report.notes.append(f"begins at line {report.first}: older files have gone, {files} are kept")
    if isinstance(head, str):
        report.problems.append(head)
    elif head is None and report.lines:
        report.problems.append("there is no signed head")
    for sequence in sorted(wanted):
        if sequence > report.head.sequence:
            report.problems.append(f"ends at line {report.head.sequence}, line {sequence} was signed or told: cut off")
        elif sequence >= report.first:
            report.problems.append(f"line {sequence}, which was signed or told, is missing")
    unsigned = report.head.sequence - report.signed
    if unsigned > 1:
        report.notes.append(f"the last {unsigned} lines are not signed yet; a cut among them is seen only by an anchor")
    return report


def _check_line(report: Report, entry: dict[str, Any], where: str, public: str) -> None:
    before = report.head
    if report.lines and (entry["sequence"], entry["previous"]) != (before.sequence + 1, before.hash):
        report.problems.append(f"{where}: does not follow line {before.sequence}: changed, left out or put in")
    if not report.lines and entry["sequence"] == 1 and entry["previous"] != FIRST:
        report.problems.append(f"{where}: the first line names one before it")
    if not report.lines and entry["sequence"] > 1 and entry["kind"] != CHECKPOINT:
        report.problems.append(f"{where}: a file that does not begin with a checkpoint")
    if entry["kind"] == CHECKPOINT:
        signed = _signed(str(entry.get("document")), public)
        if signed != Head(entry["sequence"] - 1, entry["previous"]):
            report.problems.append(f"{where}: {signed if isinstance(signed, str) else 'signed for another line'}")
        else:
            report.signed = entry["sequence"]
    if entry["kind"] in NOTED:
        report.problems.append(f"{where}: noted when the log was opened: {NOTED[entry['kind']]}")
    elif entry["kind"] == "healed":
        report.notes.append(f"{where}: {entry.get('bytes')} bytes torn by a power cut were cut off")


def _signed(document: str, public: str) -> Head | str:
    ring = KeyRing(keys=(PublicKey(key_id=thumbprint(public), public=public, purposes=frozenset({KIND})),))
    try:
        claims = verify(document, ring, KIND, KIND, 0.0).claims
        return Head(int(claims["sequence"]), str(claims["hash"]))
    except (SignatureError, KeyError, ValueError, TypeError) as error:
        return f"a signature that does not hold: {error}"


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as content:
            while line := content.readline(LINE_BYTES):
                yield line
    except OSError as error:
        raise StorageError(f"audit log {file} cannot be read: {error}") from error


def _entry(line: bytes) -> dict[str, Any] | None:
    """A line, None where it is none."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
        whole = isinstance(entry["sequence"], int) and isinstance(entry["previous"], str)
        return entry if whole and isinstance(entry["kind"], str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


@dataclass(frozen=True)
class _End:
    """The last whole line of a file: its end, its head, lines since a checkpoint, whether all before are whole."""

    at: int = 0
    head: Head | None = None
    unsigned: int = 0
    whole: bool = True


def _end(content: bytes) -> _End:
    found, position = _End(), 0
    for line in content.splitlines(keepends=True):
        position += len(line)
        if (entry := _entry(line)) is not None:
            head = Head(entry["sequence"], hashlib.sha256(line[:-1]).hexdigest())
            unsigned = 0 if entry["kind"] == CHECKPOINT else found.unsigned + 1
            found = _End(position, head, unsigned, found.whole and found.at == position - len(line))
    return found


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
