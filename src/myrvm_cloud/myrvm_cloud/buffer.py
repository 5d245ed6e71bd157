"""The durable store of deposits and telemetry. Time is an argument (ns, ROS time); one thread uses it at a time.

A deposit's state says what the sender may do with it; `docs/protocol.md` has the picture:
held (accepted, gate not finished), pending, leased, acked, dead (for the technician), void (given back, never sent).
"""

from __future__ import annotations

import functools
import os
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage, TelemetryRecord
from myrvm_core.errors import StorageError
from myrvm_core.verdict import ModelInfo
from sqlite_utils import Database

from myrvm_cloud import schema
from myrvm_cloud.salvage import Salvage, salvage
from myrvm_core import durable

NS_PER_S = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_S
OPEN_LIMIT = 100
TEXT_LIMIT = 500
DAMAGED = "damaged on disk"
_DEPOSIT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INSERT = (
    f"INSERT INTO deposits ({', '.join(schema.DEPOSIT_COLUMNS[1:])})"
    f" VALUES ({', '.join(':' + name for name in schema.DEPOSIT_COLUMNS[1:])})"
)
# SQLite's words for damage, and at opening for what is no damage to the file; everything else there is.
_DAMAGE = ("malformed", "not a database", "no such table", "no such column", "unsupported file format")
_NOT_THE_FILE = ("locked", "busy", "unable to open", "full", "disk I/O")
# Where a stage leads: the state that it gives, from which stages it may come.
_STAGE_STATE = {Stage.ACCEPTED: "held", Stage.TAKEN: "pending", Stage.RETURNED: "void", Stage.UNRESOLVED: "dead"}
_STAGE_FROM = {
    Stage.TAKEN: (Stage.ACCEPTED, Stage.UNRESOLVED),
    Stage.RETURNED: (Stage.ACCEPTED, Stage.UNRESOLVED),
    Stage.UNRESOLVED: (Stage.ACCEPTED,),
}

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class BufferStatus:
    """Figures of the buffer; counts are rows, `oldest_pending_s` the age of the oldest unsent deposit."""

    held: int
    pending: int
    leased: int
    acked: int
    dead: int
    telemetry: int
    telemetry_dropped: int
    oldest_pending_s: float
    file_bytes: int
    writable: bool
    salvaged: int


@dataclass(frozen=True)
class SalvageReport:
    """What came out of one damaged file. `lost` are ids known to be missing, all of them if `complete`.

    `gaps` are numbers missing in the rows' order: not above it are the losses between the first and the last row saved.
    """

    aside: Path
    deposits: int
    telemetry: int
    damaged: int
    lost: tuple[str, ...]
    complete: bool
    gaps: int

    def __str__(self) -> str:
        lost = f"{len(self.lost)} deposits"
        if not self.complete:
            lost = f"at least {lost} ({self.gaps} numbers are missing in their order)"
        return (
            f"damaged file set aside as {self.aside}; saved {self.deposits} deposits ({self.damaged} of them damaged, "
            f"left to the technician) and {self.telemetry} measurements; lost {lost}"
        )


def _guarded(
    method: Callable[Concatenate[DepositBuffer, P], R],
) -> Callable[Concatenate[DepositBuffer, P], R]:
    """Turn SQLite's errors into StorageError; a file found damaged is replaced and the method tried once more."""

    @functools.wraps(method)
    def guarded(self: DepositBuffer, *arguments: P.args, **named: P.kwargs) -> R:
        try:
            try:
                return method(self, *arguments, **named)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if not _is_damage(error):
                    raise
                self._replace(str(error))
                return method(self, *arguments, **named)
        except sqlite3.Error as error:
            self._writable = False
            raise StorageError(f"{self.file}: {error}") from error

    return guarded


class DepositBuffer:
    """The buffer in one SQLite file.

    Args:
        file: made where it does not exist; its folder too.
        telemetry_limit: rows of telemetry kept, the oldest are dropped first.
        keep_acked_days: credited deposits that were shown are deleted after so long; all others are kept.
        now_ns: the present, for the name of a file that has to be set aside.

    Raises:
        StorageError: the file cannot be opened or made, or is newer than this software.
    """

    def __init__(self, file: Path, telemetry_limit: int, keep_acked_days: float, now_ns: int) -> None:
        self.file = file
        self.reports: list[SalvageReport] = []
        self._telemetry_limit = telemetry_limit
        self._keep_acked_ns = int(keep_acked_days * NS_PER_DAY)
        self._now_ns = now_ns
        self._writable = True
        try:
            durable.make_folder(file.parent)
            try:
                self._open()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if any(words in str(error) for words in _NOT_THE_FILE) or not os.access(file, os.W_OK):
                    raise
                self._replace(str(error))
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{file} cannot be used: {error}") from error

    def close(self) -> None:
        """Close the file; its log is written back."""
        self._connection.close()

    # Deposits

    @_guarded
    def enqueue(self, record: DepositRecord, now_ns: int) -> None:
        """Put an accepted deposit on disk. Repeating it changes nothing.

        Raises:
            StorageError: the record is not valid, its id is known with other content, or the disk is full.
        """
        _check(record)
        row = _row_of(record, now_ns)
        with self._transaction():
            known = self._connection.execute(
                "SELECT crc FROM deposits WHERE deposit_id = ?", (record.deposit_id,)
            ).fetchone()
            if known is None:
                self._connection.execute(_INSERT, row)
            elif known[0] != row["crc"]:
                raise StorageError(f"deposit {record.deposit_id} is in the buffer already, with other content")

    @_guarded
    def update(self, deposit_id: str, stage: Stage, shown: bool, now_ns: int) -> None:
        """Move a deposit on. TAKEN makes it pending, RETURNED void, UNRESOLVED dead until a technician says which.

        Raises:
            StorageError: the deposit is not known, or has come to another end already.
        """
        with self._transaction():
            row = self._connection.execute(
                "SELECT stage, shown FROM deposits WHERE deposit_id = ?", (deposit_id,)
            ).fetchone()
            if row is None:
                raise StorageError(f"deposit {deposit_id!r} is not in the buffer")
            if (present := Stage(row[0])) != stage:
                if present not in _STAGE_FROM.get(stage, ()):
                    raise StorageError(f"deposit {deposit_id} is {present.name}, it cannot become {stage.name}")
                self._connection.execute(
                    "UPDATE deposits SET stage = ?, state = ?, changed_at_ns = ?, reason = ? WHERE deposit_id = ?",
                    (stage, _STAGE_STATE[stage], now_ns, "unresolved" * (stage is Stage.UNRESOLVED), deposit_id),
                )
            if shown and not row[1]:
                self._connection.execute("UPDATE deposits SET shown = 1 WHERE deposit_id = ?", (deposit_id,))

    @_guarded
    def list_open(self) -> list[DepositRecord]:
        """Deposits without an end, or ended and not shown; oldest first, at most 100."""
        with self._transaction():
            return self._records(
                "WHERE state = 'held' OR (state IN ('pending', 'leased', 'acked', 'dead', 'void') AND shown = 0)"
                " ORDER BY seq LIMIT ?",
                (OPEN_LIMIT,),
            )

    @_guarded
    def correct(self, boot_id: str, epoch_ns: int, boottime_ns: int) -> int:
        """The time of day is known: correct when deposits of this boot were accepted; returns how many.

        One that has been sent keeps the time that it was sent with: the server refuses a key with other content.

        Args:
            boot_id: of this boot.
            epoch_ns: the time of day at which CLOCK_BOOTTIME was zero, ns since the epoch.
            boottime_ns: CLOCK_BOOTTIME now.
        """
        with self._transaction():
            return self._connection.execute(
                "UPDATE deposits SET corrected_at_ns = accepted_monotonic_ns + ?"
                " WHERE state IN ('held', 'pending', 'dead') AND attempts = 0 AND boot_id = ? AND boot_id != ''"
                " AND clock_synchronised = 0 AND corrected_at_ns IS NULL AND accepted_monotonic_ns BETWEEN 1 AND ?",
                (epoch_ns, boot_id, boottime_ns),
            ).rowcount

    @_guarded
    def newest_accepted_at_ns(self) -> int:
        """The latest time of day that a deposit bears, 0 where there is none."""
        query = "SELECT MAX(COALESCE(corrected_at_ns, accepted_at_ns)) FROM deposits"
        return self._connection.execute(query).fetchone()[0] or 0

    @_guarded
    def lease(self, limit: int, duration_ns: int, now_ns: int) -> tuple[str, list[DepositRecord]]:
        """Hand out pending deposits, oldest first, with corrected times. The lease id is empty where there are none."""
        lease_id = str(uuid.uuid4())
        with self._transaction():
            self._expire(now_ns)
            self._connection.execute(
                "UPDATE deposits SET state = 'leased', lease_id = ?, leased_at_ns = ?, leased_until_ns = ?,"
                " attempts = attempts + 1, changed_at_ns = ?"
                " WHERE seq IN (SELECT seq FROM deposits WHERE state = 'pending' ORDER BY seq LIMIT ?)",
                (lease_id, now_ns, now_ns + duration_ns, now_ns, limit),
            )
            records = self._records("WHERE state = 'leased' AND lease_id = ? ORDER BY seq", (lease_id,), _as_sent)
        return (lease_id if records else ""), records

    @_guarded
    def ack(self, deposit_ids: Sequence[str], now_ns: int) -> int:
        """The server has credited these, whatever became of the lease. Returns how many of them are acked now."""
        with self._transaction():
            for deposit_id in deposit_ids:
                self._connection.execute(
                    "UPDATE deposits SET state = 'acked', changed_at_ns = ?, reason = ''"
                    " WHERE deposit_id = ? AND stage = ? AND state != 'acked' AND attempts > 0",
                    (now_ns, deposit_id, Stage.TAKEN),
                )
            return sum(self._is_acked(deposit_id) for deposit_id in set(deposit_ids))

    @_guarded
    def nack(self, lease_id: str, deposit_ids: Sequence[str], permanent: bool, reason: str, now_ns: int) -> int:
        """The server has not credited these: pending again, or dead. Returns how many rows of that lease it changed."""
        states = ("leased", "pending") if permanent else ("leased",)
        changed = 0
        with self._transaction():
            for deposit_id in deposit_ids:
                changed += self._connection.execute(
                    "UPDATE deposits SET state = ?, reason = ?, changed_at_ns = ? WHERE deposit_id = ?"
                    f" AND lease_id = ? AND state IN ({', '.join('?' * len(states))})",
                    ("dead" if permanent else "pending", reason[:TEXT_LIMIT], now_ns, deposit_id, lease_id, *states),
                ).rowcount
        return changed

    @_guarded
    def expire(self, now_ns: int) -> int:
        """Make deposits pending again whose lease has run out; returns how many."""
        with self._transaction():
            return self._expire(now_ns)

    @_guarded
    def prune(self, now_ns: int) -> int:
        """Delete deposits that were credited or given back, and shown, long ago; returns how many."""
        with self._transaction():
            return self._connection.execute(
                "DELETE FROM deposits WHERE state IN ('acked', 'void') AND shown = 1 AND changed_at_ns < ?",
                (now_ns - self._keep_acked_ns,),
            ).rowcount

    # Telemetry

    @_guarded
    def enqueue_telemetry(self, records: Sequence[TelemetryRecord]) -> int:
        """Keep measurements; returns how many of the oldest were dropped to make room."""
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO telemetry (stamp_ns, source, name, value) VALUES (?, ?, ?, ?)",
                [(record.stamp_ns, record.source, record.name, record.value) for record in records],
            )
            dropped = self._connection.execute(
                "DELETE FROM telemetry WHERE seq <= (SELECT seq FROM telemetry ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                (self._telemetry_limit,),
            ).rowcount
            if dropped:
                self._connection.execute(
                    "UPDATE counters SET value = value + ? WHERE name = 'telemetry_dropped'", (dropped,)
                )
        return dropped

    # Figures

    @_guarded
    def status(self, now_ns: int) -> BufferStatus:
        """Count everything."""
        counts = dict(self._connection.execute("SELECT state, COUNT(*) FROM deposits GROUP BY state"))
        (oldest,) = self._connection.execute(
            "SELECT MIN(COALESCE(corrected_at_ns, accepted_at_ns)) FROM deposits WHERE state IN ('pending', 'leased')"
        ).fetchone()
        (telemetry,) = self._connection.execute("SELECT COUNT(*) FROM telemetry").fetchone()
        (dropped,) = self._connection.execute("SELECT value FROM counters WHERE name = 'telemetry_dropped'").fetchone()
        return BufferStatus(
            held=counts.get("held", 0),
            pending=counts.get("pending", 0),
            leased=counts.get("leased", 0),
            acked=counts.get("acked", 0),
            dead=counts.get("dead", 0),
            telemetry=telemetry,
            telemetry_dropped=dropped,
            oldest_pending_s=0.0 if oldest is None else max(0.0, (now_ns - oldest) / NS_PER_S),
            file_bytes=sum(path.stat().st_size for path in _files(self.file) if path.exists()),
            writable=self._writable,
            salvaged=sum(report.deposits for report in self.reports),
        )

    @property
    def writable(self) -> bool:
        """Whether the last write reached the disk."""
        return self._writable

    @_guarded
    def probe(self, now_ns: int) -> int:
        """Write something small and delete it; StorageError while the disk takes nothing, else 1."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO telemetry (stamp_ns, source, name) VALUES (?, '', ?)",
                (now_ns, "x" * 2 * schema.PAGE_BYTES),
            )
            self._connection.execute("DELETE FROM telemetry WHERE seq = last_insert_rowid()")
            self._connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'probe'")
        return 1

    @_guarded
    def checkpoint(self) -> None:
        """Write the log back into the file, which then is all there is."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # How it is done

    def _open(self) -> None:
        self._adopt()
        wal = _beside(self.file, "-wal")
        if not self.file.exists() and not wal.exists():
            # Made whole under another name: a file that a power cut has left empty is a damaged one, never a new one.
            self._build(Salvage())
            self._adopt()
        if self.file.stat().st_size == 0 if self.file.exists() else wal.exists():
            raise sqlite3.DatabaseError("malformed: empty, or gone from beside its log")
        self._connection = schema.connect(self.file)
        self._database = Database(self._connection)
        try:
            problems = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problems != "ok":
                raise sqlite3.DatabaseError(f"malformed: {problems}")
            schema.migrate(self._connection, self.file)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("UPDATE counters SET value = value")  # a damaged header makes a file read-only
            self._connection.execute("ROLLBACK")
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, on disk when it returns."""
        self._connection.execute("BEGIN IMMEDIATE")
        changes = self._connection.total_changes
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite has rolled back by itself where the disk was full
                self._connection.execute("ROLLBACK")
            raise
        if self._connection.total_changes > changes:
            self._writable = True

    def _records(
        self,
        clause: str,
        values: Sequence[Any],
        convert: Callable[[dict[str, Any]], DepositRecord | None] | None = None,
    ) -> list[DepositRecord]:
        """Rows as records. A row that has changed by itself is left out and set aside for the technician."""
        records: list[DepositRecord] = []
        for row in list(self._database.query(f"SELECT * FROM deposits {clause}", values)):
            record = (convert or _record_of)(row)
            if record is not None:
                records.append(record)
            elif row["state"] != "dead":
                self._connection.execute(
                    "UPDATE deposits SET state = 'dead', stage = ?, reason = ? WHERE seq = ?",
                    (Stage.UNRESOLVED, DAMAGED, row["seq"]),
                )
        return records

    def _is_acked(self, deposit_id: str) -> bool:
        query = "SELECT 1 FROM deposits WHERE deposit_id = ? AND state = 'acked'"
        return self._connection.execute(query, (deposit_id,)).fetchone() is not None

    def _expire(self, now_ns: int) -> int:
        # A lease from the future was made before the clock was set back: nobody knows how old it is, so it has ended.
        return self._connection.execute(
            "UPDATE deposits SET state = 'pending', changed_at_ns = ?"
            " WHERE state = 'leased' AND (leased_until_ns <= ? OR leased_at_ns > ?)",
            (now_ns, now_ns, now_ns),
        ).rowcount

    def _replace(self, problem: str) -> None:
        """Set the damaged file aside and begin a new one with all that could be read."""
        if hasattr(self, "_connection"):
            self._connection.close()
        aside = _aside(self.file, self._now_ns)
        try:
            for old, new in zip(_files(self.file), _files(aside), strict=True):
                if old.exists():
                    os.link(old, new)
            found = salvage(self.file)
            self._build(found)
            self._adopt()
        except OSError as error:
            self._writable = False
            raise StorageError(f"{self.file} is damaged ({problem}) and cannot be salvaged: {error}") from error
        damaged = sum(row["reason"] == DAMAGED for row in found.deposits.values())
        self.reports.append(
            SalvageReport(
                aside,
                len(found.deposits),
                len(found.telemetry),
                damaged,
                tuple(sorted(found.lost)),
                found.lost_is_complete,
                found.gaps,
            )
        )
        self._open()

    def _build(self, found: Salvage) -> None:
        """Make the new file under another name; only a complete one is called ready."""
        new = _beside(self.file, ".new")
        for leftover in _files(new):
            leftover.unlink(missing_ok=True)
        connection = schema.connect(new)
        try:
            schema.migrate(connection, self.file)
            connection.execute("BEGIN IMMEDIATE")
            for row in sorted(found.deposits.values(), key=lambda row: row["seq"]):
                if schema.crc_of(row) != row["crc"] and row["state"] in ("held", "pending", "leased"):
                    row |= {"state": "dead", "stage": Stage.UNRESOLVED, "reason": DAMAGED}
                connection.execute(_INSERT, {name: row[name] for name in schema.DEPOSIT_COLUMNS[1:]})
            for row in sorted(found.telemetry.values(), key=lambda row: row["seq"])[-self._telemetry_limit :]:
                connection.execute(
                    "INSERT INTO telemetry (stamp_ns, source, name, value) VALUES (:stamp_ns, :source, :name, :value)",
                    {name: row[name] for name in schema.TELEMETRY_COLUMNS[1:]},
                )
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
        durable.rename(new, _beside(self.file, ".ready"))

    def _adopt(self) -> None:
        """Put a ready file in the place of the damaged one; done at each start, since a crash may come between."""
        ready = _beside(self.file, ".ready")
        if ready.exists():
            # The old log is gone for good before the new file has its name: SQLite would play it into the new one.
            durable.remove(*_files(self.file)[1:])
            durable.rename(ready, self.file)


def _is_damage(error: Exception) -> bool:
    # sqlite3 cannot even decode its own message where that quotes a damaged schema.
    return isinstance(error, UnicodeDecodeError) or any(words in str(error) for words in _DAMAGE)


def _files(file: Path) -> tuple[Path, Path, Path]:
    return file, _beside(file, "-wal"), _beside(file, "-shm")


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _aside(file: Path, now_ns: int) -> Path:
    """A dated name beside the file that is not taken."""
    date = datetime.fromtimestamp(now_ns / NS_PER_S, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1000):
        aside = file.with_name(f"{file.stem}.damaged-{date}{f'-{number}' if number else ''}{file.suffix}")
        if not aside.exists():
            return aside
    raise StorageError(f"{file.parent} holds 1000 damaged files of {date}: something destroys them as they are made")


def _check(record: DepositRecord) -> None:
    problem = ""
    if not _DEPOSIT_ID.fullmatch(record.deposit_id):
        problem = f"deposit_id = {record.deposit_id!r}, allowed: a UUID in lower case"
    elif record.stage is not Stage.ACCEPTED:
        problem = f"stage = {record.stage.name}, allowed: ACCEPTED"
    elif not 0.0 <= record.score <= 1.0:
        problem = f"score = {record.score}, allowed: 0 .. 1"
    elif record.points < 0:
        problem = f"points = {record.points}, allowed: 0 or more"
    elif record.weight_kg is not None and not 0.0 <= record.weight_kg < 1e6:
        problem = f"weight_kg = {record.weight_kg}, allowed: 0 or more, or not weighed"
    elif record.session.kind is SessionKind.ACCOUNT and not record.session.account_id:
        problem = "account_id is empty, but the session is an account's"
    session, model = record.session, record.model
    texts = (record.class_name, session.session_id, session.account_id, record.boot_id, *vars(model).values())
    if not problem and (long := [text for text in texts if len(text) > TEXT_LIMIT]):
        problem = f"a text of {len(long[0])} characters, allowed: {TEXT_LIMIT}"
    if problem:
        raise StorageError(f"deposit {record.deposit_id!r} is not valid: {problem}")


def _row_of(record: DepositRecord, now_ns: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "deposit_id": record.deposit_id,
        "session_kind": int(record.session.kind),
        "session_id": record.session.session_id,
        "account_id": record.session.account_id,
        "session_started_at_ns": record.session.started_at_ns,
        "class_name": record.class_name,
        "score": float(record.score),
        "points": record.points,
        "weight_kg": None if record.weight_kg is None else float(record.weight_kg),
        "accepted_at_ns": record.accepted_at_ns,
        "model_name": record.model.name,
        "model_version": record.model.version,
        "model_sha256": record.model.sha256,
    }
    return row | {
        "crc": schema.crc_of(row),
        "stage": int(record.stage),
        "shown": int(record.shown),
        "state": _STAGE_STATE[record.stage],
        "attempts": 0,
        "lease_id": "",
        "leased_at_ns": 0,
        "leased_until_ns": 0,
        "changed_at_ns": now_ns,
        "reason": "",
        "accepted_monotonic_ns": record.accepted_monotonic_ns,
        "boot_id": record.boot_id,
        "clock_synchronised": int(record.clock_synchronised),
        "corrected_at_ns": None,
    }


def _record_of(row: dict[str, Any]) -> DepositRecord | None:
    """None where the row is not as it was written."""
    if schema.crc_of(row) != row["crc"]:
        return None
    try:
        session = Session(
            SessionKind(row["session_kind"]), row["session_id"], row["account_id"], row["session_started_at_ns"]
        )
        return DepositRecord(
            deposit_id=row["deposit_id"],
            session=session,
            class_name=row["class_name"],
            score=row["score"],
            points=row["points"],
            weight_kg=row["weight_kg"],
            accepted_at_ns=row["accepted_at_ns"],
            model=ModelInfo(row["model_name"], row["model_version"], row["model_sha256"]),
            stage=Stage(row["stage"]),
            shown=bool(row["shown"]),
            attempts=row["attempts"],
            accepted_monotonic_ns=row["accepted_monotonic_ns"],
            boot_id=row["boot_id"],
            clock_synchronised=bool(row["clock_synchronised"]),
        )
    except ValueError:
        return None


def _as_sent(row: dict[str, Any]) -> DepositRecord | None:
    """With the corrected time in the place of the one that was told then."""
    record = _record_of(row)
    if record is None or row["corrected_at_ns"] is None:
        return record
    return replace(record, accepted_at_ns=row["corrected_at_ns"], clock_synchronised=True)
