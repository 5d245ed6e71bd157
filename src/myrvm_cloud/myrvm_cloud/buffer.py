"""The durable store of deposits and telemetry. Time is an argument (ns, ROS time); one thread uses it at a time.

A deposit's state says what the sender may do with it; `docs/protocol.md` has the picture:
held (accepted, gate not finished), pending, leased, acked, void (given back, never sent), and for the technician
uncertain (sent, and nobody knows what became of it) and dead.
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import IntEnum
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import uuid_utils
from myrvm_core.deposit_record import DepositRecord, Stage, TelemetryRecord
from myrvm_core.errors import StorageError

from myrvm_cloud import schema
from myrvm_cloud.deposit_rows import RECORD_COLUMNS, STAGE_STATE, TEXT_LIMIT, check, record_of, row_of
from myrvm_cloud.salvage import Salvage, salvage
from myrvm_cloud.schema import OPEN, UNDATED, UNSENT
from myrvm_core import durable

NS_PER_S = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_S
OPEN_LIMIT = 100
PRUNE_LIMIT = 1000  # rows deleted in one transaction: nobody waits long for the disk meanwhile
DAMAGED = "damaged on disk"
OLDER_COPY = "read from a damaged file, perhaps an older copy: it may have been sent"
NO_ANSWER = "sent, and the sender ended before it had an answer"
_RECORD = f"seq, state, {', '.join(RECORD_COLUMNS)}"
_LEASED = _RECORD.replace(" attempts", " attempts + 1")  # as it is when it is leased
_AMONG = "IN (SELECT value FROM json_each(?))"
_INSERT = (
    f"INSERT INTO deposits ({', '.join(schema.DEPOSIT_COLUMNS[1:])})"
    f" VALUES ({', '.join(':' + name for name in schema.DEPOSIT_COLUMNS[1:])})"
)
# SQLite's words for damage, and at opening for what is no damage to the file; everything else there is.
_DAMAGE = ("malformed", "not a database", "no such table", "no such column", "unsupported file format")
_NOT_THE_FILE = ("locked", "busy", "unable to open", "full", "disk I/O")
# From which stages a stage may come.
_STAGE_FROM = {
    Stage.TAKEN: (Stage.ACCEPTED, Stage.UNRESOLVED),
    Stage.RETURNED: (Stage.ACCEPTED, Stage.UNRESOLVED),
    Stage.UNRESOLVED: (Stage.ACCEPTED,),
}


class Decision(IntEnum):
    """What a technician may say about a deposit; numbers of `srv/DecideDeposits`."""

    RETRY = 1
    PARK = 2
    CREDITED = 3
    NOT_CREDITED = 4
    TAKEN = 5
    RETURNED = 6
    EXPORTED = 7


# Which rows a decision is for, and what becomes of them.
_DECISIONS = {
    Decision.RETRY: (f"state = 'dead' AND stage = {Stage.TAKEN:d}", "state = 'pending', reason = ''"),
    Decision.PARK: ("state = 'pending'", "state = 'dead', reason = :reason"),
    Decision.CREDITED: ("state = 'uncertain'", "state = 'acked', reason = :reason"),
    Decision.NOT_CREDITED: ("state = 'uncertain'", "state = 'pending', reason = :reason"),
    Decision.TAKEN: (
        f"state = 'dead' AND stage = {Stage.UNRESOLVED:d}",
        f"state = 'pending', stage = {Stage.TAKEN:d}, reason = :reason",
    ),
    Decision.RETURNED: (
        f"state = 'dead' AND stage = {Stage.UNRESOLVED:d}",
        f"state = 'void', stage = {Stage.RETURNED:d}, reason = :reason",
    ),
    Decision.EXPORTED: (UNSENT, "exported_at_ns = :now_ns"),
}

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class BufferStatus:
    """Figures of the buffer: counts of rows; `oldest_pending_s` is the age of the oldest session's first unsent one."""

    held: int
    pending: int
    leased: int
    acked: int
    dead: int
    uncertain: int
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
        check(record)
        row = row_of(record, now_ns)
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
                    (stage, STAGE_STATE[stage], now_ns, "unresolved" * (stage is Stage.UNRESOLVED), deposit_id),
                )
            if shown and not row[1]:
                self._connection.execute("UPDATE deposits SET shown = 1 WHERE deposit_id = ?", (deposit_id,))

    @_guarded
    def list_open(self) -> list[DepositRecord]:
        """Deposits without an end, or ended and not shown; oldest first, at most 100."""
        with self._transaction():
            # +seq: through the index of these few, not through the table in its own order.
            query = f"SELECT {_RECORD} FROM deposits WHERE {OPEN} ORDER BY +seq LIMIT ?"
            return list(self._records(self._connection.execute(query, (OPEN_LIMIT,)).fetchall()).values())

    @_guarded
    def correct(self, boot_id: str, epoch_ns: int, boottime_ns: int) -> int:
        """The time of day is known: correct when deposits of this boot were accepted; returns how many.

        One that has been sent or exported keeps its time: the server refuses a key with other content.

        Args:
            boot_id: of this boot.
            epoch_ns: the time of day at which CLOCK_BOOTTIME was zero, ns since the epoch.
            boottime_ns: CLOCK_BOOTTIME now.
        """
        with self._transaction():
            return self._connection.execute(
                "UPDATE deposits SET corrected_at_ns = accepted_monotonic_ns + ?"
                f" WHERE {UNDATED} AND state IN ('held', 'pending', 'dead')"
                " AND boot_id = ? AND boot_id != '' AND accepted_monotonic_ns BETWEEN 1 AND ?",
                (epoch_ns, boot_id, boottime_ns),
            ).rowcount

    @_guarded
    def newest_accepted_at_ns(self) -> int:
        """The latest time of day that a deposit bears, 0 where there is none."""
        query = "SELECT MAX(COALESCE(corrected_at_ns, accepted_at_ns)) FROM deposits"
        return self._connection.execute(query).fetchone()[0] or 0

    @_guarded
    def lease(self, limit: int, duration_ns: int, now_ns: int, once: bool = False) -> tuple[str, list[DepositRecord]]:
        """Hand out pending deposits with corrected times. The lease id is empty where there are none.

        The newest sessions have one half, the oldest the other: what is fresh does not wait behind a backlog, and a
        backlog not behind what is fresh. A session's deposits keep their order, also across leases: while one of them
        is leased the later ones wait. Deposits of no session have none.

        A lease is synced only where it has to outlast a power cut: with `once`, and while there are deposits whose time
        may still be corrected. Without it they are sent again, as they were sent before.

        Args:
            limit: so many at most.
            duration_ns: then they are pending again.
            now_ns: the present.
            once: the server knows no keys. When this lease runs out they are uncertain, and not sent again.
        """
        lease_id = str(uuid.uuid4())
        with self._transaction(synced=once or self._any_undated()):
            self._expire(now_ns)
            records = self._records(self._choose(limit), as_sent=True)
            self._connection.execute(
                "UPDATE deposits SET state = 'leased', lease_id = ?, leased_at_ns = ?, leased_until_ns = ?,"
                f" attempts = attempts + 1, changed_at_ns = ?, once = ? WHERE seq {_AMONG}",
                (lease_id, now_ns, now_ns + duration_ns, now_ns, int(once), json.dumps(list(records))),
            )
        return (lease_id if records else ""), list(records.values())

    @_guarded
    def ack(self, deposit_ids: Sequence[str], now_ns: int) -> int:
        """The server has credited these, whatever became of the lease. Returns how many of them are acked now."""
        ids = json.dumps(list(deposit_ids))
        with self._transaction():
            acked = self._connection.execute(
                "UPDATE deposits SET state = 'acked', changed_at_ns = ?, reason = ''"
                f" WHERE deposit_id {_AMONG} AND stage = ? AND state != 'acked' AND attempts > 0",
                (now_ns, ids, Stage.TAKEN),
            ).rowcount
            if acked == len(deposit_ids):
                return acked
            query = f"SELECT COUNT(*) FROM deposits WHERE deposit_id {_AMONG} AND state = 'acked'"
            return self._connection.execute(query, (ids,)).fetchone()[0]

    @_guarded
    def nack(
        self,
        lease_id: str,
        deposit_ids: Sequence[str],
        permanent: bool,
        reason: str,
        now_ns: int,
        uncertain: bool = False,
    ) -> int:
        """The server has not credited these, or nobody knows. Returns how many rows of that lease it changed.

        Args:
            lease_id: as `lease` gave it.
            deposit_ids: of that lease.
            permanent: they are dead; pending again otherwise.
            reason: one line for the technician.
            now_ns: the present.
            uncertain: they were sent and the answer was lost: never sent again until a technician says so.
        """
        state, came_from = "pending", ["leased"]
        if permanent:
            state, came_from = "dead", ["leased", "pending"]
        if uncertain:
            state, came_from = "uncertain", ["leased", "pending", "uncertain"]
        with self._transaction():
            return self._connection.execute(
                "UPDATE deposits SET state = ?, reason = ?, changed_at_ns = ?"
                f" WHERE deposit_id {_AMONG} AND lease_id = ? AND state {_AMONG}",
                (state, reason[:TEXT_LIMIT], now_ns, json.dumps(list(deposit_ids)), lease_id, json.dumps(came_from)),
            ).rowcount

    @_guarded
    def decide(
        self,
        decision: Decision,
        deposit_ids: Sequence[str],
        reason: str,
        now_ns: int,
        audit: Callable[[list[str]], None] = lambda _: None,
    ) -> list[str]:
        """A technician says what is to become of deposits; returns those that were in a state for it.

        Args:
            decision: what.
            deposit_ids: of which; the others are left as they are.
            reason: one line, kept with them.
            now_ns: the present.
            audit: called with those before any of them is changed; what it raises leaves all as they are.
        """
        condition, change = _DECISIONS[decision]
        with self._transaction():
            query = f"SELECT deposit_id FROM deposits WHERE deposit_id {_AMONG} AND {condition} AND reason != ?"
            ids = json.dumps(list(deposit_ids))
            decided = sorted(row[0] for row in self._connection.execute(query, (ids, DAMAGED)))
            if decided:
                audit(decided)
                self._connection.execute(
                    f"UPDATE deposits SET {change}, changed_at_ns = :now_ns"
                    " WHERE deposit_id IN (SELECT value FROM json_each(:ids))",
                    {"reason": reason[:TEXT_LIMIT], "now_ns": now_ns, "ids": json.dumps(decided)},
                )
        return decided

    @_guarded
    def expire(self, now_ns: int) -> int:
        """Make deposits pending again, or uncertain, whose lease has run out; returns how many."""
        with self._transaction():
            return self._expire(now_ns)

    @_guarded
    def prune(self, now_ns: int) -> int:
        """Delete deposits that were credited or given back, and shown, long ago, 1000 at most; returns how many."""
        with self._transaction():
            return self._connection.execute(
                "DELETE FROM deposits WHERE seq IN (SELECT seq FROM deposits"
                " WHERE state IN ('acked', 'void') AND shown = 1 AND changed_at_ns < ? LIMIT ?)",
                (now_ns - self._keep_acked_ns, PRUNE_LIMIT),
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
            excess = max(0, self._amounts()["telemetry"] - self._telemetry_limit)
            dropped = self._connection.execute(
                "DELETE FROM telemetry WHERE seq IN (SELECT seq FROM telemetry ORDER BY seq LIMIT ?)", (excess,)
            ).rowcount
            if dropped:
                self._connection.execute(
                    "UPDATE counters SET value = value + ? WHERE name = 'telemetry_dropped'", (dropped,)
                )
        return dropped

    @_guarded
    def lease_telemetry(self, limit: int) -> tuple[str, list[TelemetryRecord]]:
        """The oldest measurements as a batch: the same id and rows until it is acked, fewer where some were dropped."""
        with self._transaction():
            batch = self._connection.execute("SELECT batch_id, last_seq FROM telemetry_batch").fetchone()
            rows = self._batch(batch[1]) if batch else []
            if not rows:
                self._connection.execute("DELETE FROM telemetry_batch")
                query = "SELECT MAX(seq) FROM (SELECT seq FROM telemetry ORDER BY seq LIMIT ?)"
                (last,) = self._connection.execute(query, (limit,)).fetchone()
                if last is None:
                    return "", []
                batch = (str(uuid_utils.uuid7()), last)
                self._connection.execute("INSERT INTO telemetry_batch VALUES (?, ?)", batch)
                rows = self._batch(last)
            return batch[0], rows

    def _batch(self, last: int) -> list[TelemetryRecord]:
        query = "SELECT stamp_ns, source, name, value FROM telemetry WHERE seq <= ? ORDER BY seq"
        return [TelemetryRecord(*row) for row in self._connection.execute(query, (last,))]

    @_guarded
    def ack_telemetry(self, batch_id: str) -> int:
        """The server has this batch: delete it. Returns how many measurements that were."""
        with self._transaction():
            query = "SELECT last_seq FROM telemetry_batch WHERE batch_id = ?"
            batch = self._connection.execute(query, (batch_id,)).fetchone()
            if batch is None:
                return 0
            self._connection.execute("DELETE FROM telemetry_batch")
            return self._connection.execute("DELETE FROM telemetry WHERE seq <= ?", batch).rowcount

    # Figures

    @_guarded
    def status(self, now_ns: int) -> BufferStatus:
        """What there is; the same work however much that is."""
        amounts = self._amounts()
        first = f"SELECT COALESCE(corrected_at_ns, accepted_at_ns) FROM deposits WHERE {UNSENT} AND state = ?"
        first += " ORDER BY session_id, seq LIMIT 1"
        times = [row[0] for state in ("pending", "leased") for row in self._connection.execute(first, (state,))]
        oldest = min(times, default=None)
        (dropped,) = self._connection.execute("SELECT value FROM counters WHERE name = 'telemetry_dropped'").fetchone()
        return BufferStatus(
            **{name: amount for name, amount in amounts.items() if name != "void"},
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
        try:
            problems = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problems != "ok":
                raise sqlite3.DatabaseError(f"malformed: {problems}")
            schema.migrate(self._connection, self.file)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("UPDATE counters SET value = value")  # a damaged header makes a file read-only
            self._connection.execute("ROLLBACK")
            self._count()
        except BaseException:
            self._connection.close()
            raise

    def _any_undated(self) -> bool:
        return self._connection.execute(f"SELECT 1 FROM deposits WHERE {UNDATED} LIMIT 1").fetchone() is not None

    @contextmanager
    def _transaction(self, synced: bool = True) -> Iterator[None]:
        """All or nothing, on disk when it returns; not `synced`, at the latest with the next that is."""
        if not synced:
            (level,) = self._connection.execute("PRAGMA synchronous").fetchone()
            self._connection.execute("PRAGMA synchronous=NORMAL")
            try:
                with self._transaction():
                    yield
            finally:
                self._connection.execute(f"PRAGMA synchronous={level}")
            return
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

    def _count(self) -> None:
        self._connection.executescript(f"BEGIN; {schema.COUNTS} COMMIT;")
        self._counted_version = self._version()

    def _version(self) -> int:
        return self._connection.execute("PRAGMA data_version").fetchone()[0]  # another process has written

    def _amounts(self) -> dict[str, int]:
        """Rows by state, and of telemetry."""
        if not self._connection.in_transaction and self._version() != self._counted_version:
            self._count()
        return dict(self._connection.execute("SELECT name, amount FROM counts"))

    def _choose(self, limit: int) -> list[tuple[Any, ...]]:
        """Rows of `_LEASED` to lease next, in the order in which to send them."""
        query = f"SELECT DISTINCT session_id FROM deposits WHERE {UNSENT} AND state = 'leased' AND session_id != ''"
        under_way = {row[0] for row in self._connection.execute(query)}
        chosen: dict[int, tuple[Any, ...]] = {}
        for newest, room in ((True, limit - limit // 2), (False, limit)):
            for session_id in self._sessions(newest):
                if len(chosen) == room:
                    break
                if session_id in under_way:
                    continue
                query = f"SELECT {_LEASED} FROM deposits WHERE {UNSENT} AND state = 'pending' AND session_id = ?"
                query += " ORDER BY seq LIMIT ?"
                for row in self._connection.execute(query, (session_id, limit)).fetchall():
                    if len(chosen) < room:
                        chosen[row[0]] = row
        return list(chosen.values())

    def _sessions(self, newest_first: bool) -> Iterator[str]:
        """Sessions with pending deposits. Their ids are UUIDv7, so their order is that of time."""
        pending = f"SELECT session_id FROM deposits WHERE {UNSENT} AND state = 'pending'"
        order = f"ORDER BY session_id {'DESC' if newest_first else 'ASC'} LIMIT 1"
        found = self._connection.execute(f"{pending} {order}").fetchone()
        while found is not None:
            yield found[0]
            query = f"{pending} AND session_id {'<' if newest_first else '>'} ? {order}"
            found = self._connection.execute(query, found).fetchone()

    def _records(self, rows: Sequence[tuple[Any, ...]], as_sent: bool = False) -> dict[int, DepositRecord]:
        """Rows of `_RECORD` by number. One that has changed by itself is left out, set aside for the technician."""
        records: dict[int, DepositRecord] = {}
        for seq, state, *columns in rows:
            record = record_of(columns, as_sent)
            if record is not None:
                records[seq] = record
            elif state != "dead":
                self._connection.execute(
                    "UPDATE deposits SET state = 'dead', stage = ?, reason = ? WHERE seq = ?",
                    (Stage.UNRESOLVED, DAMAGED, seq),
                )
        return records

    def _expire(self, now_ns: int) -> int:
        # A lease from the future was made before the clock was set back: nobody knows how old it is, so it has ended.
        return self._connection.execute(
            "UPDATE deposits SET state = iif(once, 'uncertain', 'pending'), reason = iif(once, ?, reason),"
            f" changed_at_ns = ? WHERE {UNSENT} AND state = 'leased' AND (leased_until_ns <= ? OR leased_at_ns > ?)",
            (NO_ANSWER, now_ns, now_ns, now_ns),
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
            once = any(row["once"] for row in found.deposits.values())
            for row in sorted(found.deposits.values(), key=lambda row: row["seq"]):
                if schema.crc_of(row) != row["crc"] and row["state"] in ("held", "pending", "leased", "uncertain"):
                    row |= {"state": "dead", "stage": Stage.UNRESOLVED, "reason": DAMAGED}
                elif once and row["state"] == "pending" and not row["live"]:
                    row |= {"state": "uncertain", "reason": OLDER_COPY}
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
