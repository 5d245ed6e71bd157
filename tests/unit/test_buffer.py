"""The buffer against a plain model, on full disks and on damaged files."""

from __future__ import annotations

import math
import random
import sqlite3
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from myrvm_cloud.buffer import NS_PER_DAY, Decision, DepositBuffer
from myrvm_cloud.clock_keeper import ClockKeeper
from myrvm_cloud.schema import ADDED_COLUMNS, DEPOSIT_COLUMNS, MIGRATIONS, PAGE_BYTES
from myrvm_core.clock import EARLIEST_NS, MachineClock
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage, TelemetryRecord
from myrvm_core.errors import StorageError
from myrvm_core.verdict import ModelInfo

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where a commit costs no disk
EXAMPLES = 100
MINUTE = 60_000_000_000


def record(number: int = 0, **changes: Any) -> DepositRecord:
    session = Session(SessionKind.ACCOUNT, str(uuid.UUID(int=7)), "alice", 1)
    made = DepositRecord(
        str(uuid.UUID(int=number + 1)),
        "mineral",
        0.875,
        5,
        1000 + number,
        session,
        0.02,
        ModelInfo("net", "1", "f" * 64),
    )
    return replace(made, **changes)


def make(file: Path, telemetry_limit: int = 10, now_ns: int = 0) -> DepositBuffer:
    return DepositBuffer(file, telemetry_limit, 30.0, now_ns)


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[DepositBuffer]:
    made = make(tmp_path / "deposits.db")
    yield made
    made.close()


def taken(buffer: DepositBuffer, count: int) -> list[str]:
    ids: list[str] = []
    for number in range(count):
        buffer.enqueue(record(number), number)
        buffer.update(record(number).deposit_id, Stage.TAKEN, True, number)
        ids.append(record(number).deposit_id)
    return ids


# Against a model


@dataclass
class Row:
    record: DepositRecord
    state: str = "held"
    lease_id: str = ""
    until: int = 0
    leased_at: int = 0
    once: bool = False
    reason: str = ""


NEXT = {
    Stage.ACCEPTED: {Stage.TAKEN: "pending", Stage.RETURNED: "void", Stage.UNRESOLVED: "dead"},
    Stage.UNRESOLVED: {Stage.TAKEN: "pending", Stage.RETURNED: "void"},
}
SESSIONS = ("", "0190-a", "0190-b", "0190-c")  # as they come: the first is none
# What a decision is for (a state, a stage), and what it gives.
DECIDED = {
    Decision.RETRY: ({"dead"}, Stage.TAKEN, "pending", Stage.TAKEN),
    Decision.PARK: ({"pending"}, Stage.TAKEN, "dead", Stage.TAKEN),
    Decision.CREDITED: ({"uncertain"}, Stage.TAKEN, "acked", Stage.TAKEN),
    Decision.NOT_CREDITED: ({"uncertain"}, Stage.TAKEN, "pending", Stage.TAKEN),
    Decision.TAKEN: ({"dead"}, Stage.UNRESOLVED, "pending", Stage.TAKEN),
    Decision.RETURNED: ({"dead"}, Stage.UNRESOLVED, "void", Stage.RETURNED),
    Decision.EXPORTED: ({"pending", "leased"}, Stage.TAKEN, "", Stage.TAKEN),
}


def to_lease(rows: list[Row], limit: int) -> list[Row]:
    """Half for the newest sessions, the rest for the oldest; none of a session that is under way, in order within."""
    sessions: dict[str, list[Row]] = {}
    for row in rows:
        if row.state == "pending":
            sessions.setdefault(row.record.session.session_id, []).append(row)
    for row in rows:
        if row.state == "leased" and row.record.session.session_id:
            sessions.pop(row.record.session.session_id, None)
    newest = [row for name in sorted(sessions, reverse=True) for row in sessions[name]][: limit - limit // 2]
    oldest = [row for name in sorted(sessions) for row in sessions[name] if row not in newest]
    return newest + oldest[: limit - len(newest)]


class BufferMachine(RuleBasedStateMachine):
    """Any order of calls, with the clock also going back, the process ending and the file opened again."""

    deposits = Bundle("deposits")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.file = Path(self.folder.name) / "deposits.db"
        self.buffer = make(self.file, telemetry_limit=5)
        self.now = 1000 * MINUTE
        self.model: dict[str, Row] = {}
        self.measured: list[TelemetryRecord] = []
        self.telemetry: list[TelemetryRecord] = []
        self.batch: list[TelemetryRecord] = []
        self.batch_id = ""
        self.dropped = 0

    def teardown(self) -> None:
        self.buffer.close()
        self.folder.cleanup()

    @rule(
        target=deposits,
        points=st.integers(0, 2**32 - 1),
        weight=st.none() | st.floats(0, 10, width=32),
        session_id=st.sampled_from(SESSIONS),
    )
    def enqueue(self, points: int, weight: float | None, session_id: str) -> str:
        session = Session(SessionKind.ACCOUNT, session_id, "alice", 1)
        made = record(len(self.model), points=points, weight_kg=weight, session=session)
        self.buffer.enqueue(made, self.now)
        self.model[made.deposit_id] = Row(made)
        return made.deposit_id

    @rule(target=deposits, session_id=st.sampled_from(SESSIONS[1:3]), shown=st.booleans())
    def take(self, session_id: str, shown: bool) -> str:
        deposit = str(self.enqueue(5, None, session_id))
        self.update(deposit, Stage.TAKEN, shown)
        return deposit

    @rule(deposit=deposits)
    def enqueue_again(self, deposit: str) -> None:
        self.buffer.enqueue(replace(self.model[deposit].record, stage=Stage.ACCEPTED, shown=False), self.now)

    @rule(deposit=deposits)
    def enqueue_other_content(self, deposit: str) -> None:
        other = replace(self.model[deposit].record, class_name="other", stage=Stage.ACCEPTED)
        with pytest.raises(StorageError, match="other content"):
            self.buffer.enqueue(other, self.now)

    @rule(deposit=deposits, stage=st.sampled_from(Stage), shown=st.booleans())
    def update(self, deposit: str, stage: Stage, shown: bool) -> None:
        row = self.model[deposit]
        if stage != row.record.stage:
            state = NEXT.get(row.record.stage, {}).get(stage)
            if state is None:
                with pytest.raises(StorageError, match="cannot become"):
                    self.buffer.update(deposit, stage, shown, self.now)
                return
            row.state = state
        row.record = replace(row.record, stage=stage, shown=row.record.shown or shown)
        self.buffer.update(deposit, stage, shown, self.now)

    @rule(target=leases, limit=st.integers(1, 5), minutes=st.integers(1, 10), once=st.booleans())
    def lease(self, limit: int, minutes: int, once: bool) -> tuple[str, list[str]]:
        self.expire_model()
        expected = to_lease(list(self.model.values()), limit)
        lease_id, records = self.buffer.lease(limit, minutes * MINUTE, self.now, once)
        assert bool(lease_id) == bool(expected)
        for row in expected:
            row.state, row.lease_id = "leased", lease_id
            row.leased_at, row.until, row.once = self.now, self.now + minutes * MINUTE, once
            row.record = replace(row.record, attempts=row.record.attempts + 1)
        assert records == [row.record for row in expected]
        return lease_id, [made.deposit_id for made in records]

    @rule(lease=leases)
    def ack(self, lease: tuple[str, list[str]]) -> None:
        for deposit in lease[1]:
            if self.model[deposit].record.stage == Stage.TAKEN:
                self.model[deposit].state = "acked"
        assert self.buffer.ack(lease[1], self.now) == len(lease[1])

    @rule(lease=leases, outcome=st.sampled_from(["pending", "dead", "uncertain"]))
    def nack(self, lease: tuple[str, list[str]], outcome: str) -> None:
        changed = 0
        late = {"pending": (), "dead": ("pending",), "uncertain": ("pending", "uncertain")}[outcome]
        for deposit in lease[1]:
            row = self.model[deposit]
            if row.lease_id == lease[0] and row.state in ("leased", *late):
                row.state = outcome
                changed += 1
        permanent, uncertain = outcome == "dead", outcome == "uncertain"
        assert self.buffer.nack(*lease, permanent, "no", self.now, uncertain) == changed

    @rule(limit=st.integers(1, 3))
    def send_and_hear_nothing(self, limit: int) -> None:
        self.nack(self.lease(limit, 5, True), "uncertain")

    @rule(data=st.data(), told=st.booleans())
    def decide(self, data: st.DataObject, told: bool) -> None:
        waiting = [row for row in self.model.values() if row.state in ("uncertain", "dead", "pending")]
        fitting = {
            decision
            for decision, (states, stage, *_) in DECIDED.items()
            if any(row.state in states and row.record.stage == stage for row in waiting)
        }
        decision = data.draw(st.sampled_from(sorted(fitting) or list(Decision)))
        states, stage, state, then = DECIDED[decision]
        chosen = data.draw(st.lists(st.sampled_from(list(self.model) or ["unknown"]), unique=True, max_size=4))
        chosen += [row.record.deposit_id for row in waiting if row.state in states][:1]
        chosen = [deposit for deposit in dict.fromkeys(chosen) if deposit in self.model]
        meant = [self.model[deposit] for deposit in chosen]
        meant = [row for row in meant if row.state in states and row.record.stage == stage]
        ids = sorted(row.record.deposit_id for row in meant)
        heard: list[list[str]] = []

        def audit(decided: list[str]) -> None:
            heard.append(decided)
            if not told:
                raise StorageError("no line, no change")

        if ids and not told:
            with pytest.raises(StorageError, match="no line"):
                self.buffer.decide(decision, chosen, "so it is", self.now, audit)
            return
        assert self.buffer.decide(decision, chosen, "so it is", self.now, audit) == ids
        assert heard == ([ids] if ids else [])
        for row in meant:
            row.state = state or row.state
            row.record = replace(row.record, stage=then)

    @rule(minutes=st.integers(-20, 20))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    @rule()
    def expire(self) -> None:
        self.expire_model()
        self.buffer.expire(self.now)

    @rule(count=st.integers(1, 8))
    def measure(self, count: int) -> None:
        first = len(self.measured)
        made = [TelemetryRecord(first + number, "health", "cpu_percent", 1.0) for number in range(count)]
        self.measured += made
        dropped = max(0, len(self.telemetry) + count - 5)
        assert self.buffer.enqueue_telemetry(made) == dropped
        self.telemetry = [*self.telemetry, *made][-5:]
        self.batch = [made for made in self.batch if made in self.telemetry]
        self.dropped += dropped

    @rule(limit=st.integers(1, 4))
    def lease_telemetry(self, limit: int) -> None:
        batch_id, records = self.buffer.lease_telemetry(limit)
        if self.batch:
            assert (batch_id, records) == (self.batch_id, self.batch)
        else:
            assert batch_id != self.batch_id or not records
            assert records == self.telemetry[:limit]
            self.batch_id, self.batch = batch_id, records

    @rule()
    def ack_telemetry(self) -> None:
        assert self.buffer.ack_telemetry("unknown") == 0
        assert self.buffer.ack_telemetry(self.batch_id) == len(self.batch)
        assert self.buffer.ack_telemetry(self.batch_id) == 0
        self.telemetry, self.batch = [made for made in self.telemetry if made not in self.batch], []

    @rule()
    def open_again(self) -> None:
        self.buffer.close()
        self.buffer = make(self.file, telemetry_limit=5)

    @invariant()
    def agrees(self) -> None:
        status = self.buffer.status(self.now)
        states = [row.state for row in self.model.values()]
        for state in ("held", "pending", "leased", "uncertain", "acked", "dead"):
            assert getattr(status, state) == states.count(state), state
        assert (status.telemetry, status.telemetry_dropped) == (len(self.telemetry), self.dropped)
        expected = [row.record for row in self.model.values() if row.record.stage == 1 or not row.record.shown]
        assert self.buffer.list_open() == expected[:100]

    def expire_model(self) -> None:
        for row in self.model.values():
            if row.state == "leased" and (row.until <= self.now or row.leased_at > self.now):
                row.state = "uncertain" if row.once else "pending"


TestAgainstModel = BufferMachine.TestCase
TestAgainstModel.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# Single promises


def test_ack_of_a_deposit_that_was_never_sent_changes_nothing(buffer: DepositBuffer) -> None:
    taken(buffer, 1)
    buffer.enqueue(record(1), 1)
    assert buffer.ack([record(0).deposit_id, record(1).deposit_id, "unknown"], 5) == 0
    assert buffer.status(5).pending == 1


def test_ack_from_a_lease_that_expired_and_was_given_to_another(buffer: DepositBuffer) -> None:
    ids = taken(buffer, 2)
    first, _ = buffer.lease(10, MINUTE, 0)
    second, records = buffer.lease(10, MINUTE, 2 * MINUTE)
    assert first != second
    assert [made.attempts for made in records] == [2, 2]
    assert buffer.ack(ids, 2 * MINUTE) == 2
    assert buffer.nack(second, ids, True, "too late", 2 * MINUTE) == 0
    assert buffer.status(0).acked == 2


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"deposit_id": "x"}, "UUID"),
        ({"stage": Stage.TAKEN}, "stage"),
        ({"score": math.nan}, "score"),
        ({"score": 1.5}, "score"),
        ({"points": -1}, "points"),
        ({"weight_kg": -1.0}, "weight_kg"),
        ({"class_name": "x" * 501}, "501 characters"),
        ({"session": Session(SessionKind.ACCOUNT)}, "account_id"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(buffer: DepositBuffer, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(StorageError, match=what):
        buffer.enqueue(record(0, **changes), 0)
    assert buffer.list_open() == []


def test_only_old_credited_rows_that_were_shown_are_deleted(buffer: DepositBuffer) -> None:
    ids = taken(buffer, 3)
    buffer.enqueue(record(3), 0)
    lease_id, _ = buffer.lease(2, MINUTE, 0)
    buffer.ack(ids[:1], 0)
    buffer.nack(lease_id, ids[1:2], True, "refused", 0)
    assert buffer.prune(29 * NS_PER_DAY) == 0
    assert buffer.prune(31 * NS_PER_DAY) == 1
    status = buffer.status(0)
    assert (status.acked, status.dead, status.pending, status.held) == (0, 1, 1, 1)


def older(file: Path, version: int) -> None:
    """Turn a buffer's file into one of an older schema."""
    left_out = list(ADDED_COLUMNS)[4 if version == 3 else 0 :]
    columns = ", ".join(name for name in DEPOSIT_COLUMNS if name not in left_out)
    connection = sqlite3.connect(file)
    statements = (
        "ALTER TABLE deposits RENAME TO newer", "DROP TABLE telemetry", "DROP TABLE telemetry_batch",
        "DROP TABLE counters", *MIGRATIONS[:version], f"INSERT INTO deposits ({columns}) SELECT {columns} FROM newer",
        "DROP TABLE newer", f"PRAGMA user_version={version}",
    )  # fmt: skip
    connection.executescript("; ".join(statements))
    connection.close()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_file_is_migrated_and_keeps_its_rows(tmp_path: Path, version: int) -> None:
    file = tmp_path / "deposits.db"
    buffer = make(file)
    taken(buffer, 3)
    buffer.lease(1, 100 * MINUTE, 0)
    buffer.close()
    older(file, version)
    buffer = make(file)
    assert (buffer.status(0).pending, buffer.status(0).leased) == (2, 1)
    assert buffer.expire(100 * MINUTE) == 1
    lease_id, records = buffer.lease(10, 1, 0)
    assert [(row.clock_synchronised, row.attempts) for row in records] == [(False, 2), (False, 1), (False, 1)]
    assert buffer.nack(lease_id, [row.deposit_id for row in records], False, "lost", 0, uncertain=True) == 3
    assert buffer.status(0).uncertain == 3
    assert buffer.enqueue_telemetry([TelemetryRecord(1, "a", "b", 2.0)]) == 0
    assert buffer.reports == []
    buffer.close()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("through_sqlite", [True, False])
def test_a_damaged_older_file_is_salvaged(tmp_path: Path, through_sqlite: bool, version: int) -> None:
    file = tmp_path / "deposits.db"
    buffer = make(file)
    taken(buffer, 40)
    buffer.close()
    older(file, version)
    data = bytearray(file.read_bytes())
    # Only a page of rows, or the header too.
    first = page_of(data, 0x0D, record(3).deposit_id.encode()) if through_sqlite else 0
    data[first * PAGE_BYTES : first * PAGE_BYTES + 16] = b"?" * 16
    file.write_bytes(data)
    buffer = make(file)
    assert buffer.reports
    saved = buffer.lease(100, 1, 0)[1]
    assert len(saved) == buffer.reports[0].deposits > 20
    assert {(row.boot_id, row.accepted_monotonic_ns) for row in saved} == {("", 0)}
    buffer.close()


def test_a_time_that_nobody_trusted_is_corrected_until_it_is_sent(tmp_path: Path) -> None:
    buffer = make(tmp_path / "deposits.db")
    clocks = {"accepted_monotonic_ns": 70, "boot_id": "now"}
    stamps = (
        clocks,  # to be corrected
        clocks | {"boot_id": "before"},  # its boot is over: nobody knows when that was
        clocks | {"clock_synchronised": True},
        clocks | {"accepted_monotonic_ns": 9000},  # after now: damaged
        {},  # of an older version
    )
    for number, stamp in enumerate(stamps):
        buffer.enqueue(record(number, **stamp), 0)
        buffer.update(record(number).deposit_id, Stage.TAKEN, True, 0)
    assert buffer.correct("", 50_000, 100) == 0
    assert buffer.newest_accepted_at_ns() == 1004
    assert buffer.correct("now", 50_000, 100) == 1
    assert buffer.correct("now", 60_000, 100) == 0
    assert buffer.newest_accepted_at_ns() == 50_070
    buffer.close()

    buffer = make(tmp_path / "deposits.db")
    buffer.expire(5)
    sent = {row.deposit_id: (row.accepted_at_ns, row.clock_synchronised) for row in buffer.lease(9, 1, 5)[1]}
    assert [sent[record(number).deposit_id] for number in range(5)] == [
        (50_070, True), (1001, False), (1002, True), (1003, False), (1004, False)
    ]  # fmt: skip
    assert buffer.correct("before", 50_000, 100) == 0  # sent already, with the time that it had
    buffer.close()
    (original,) = sqlite3.connect(buffer.file).execute("SELECT accepted_at_ns FROM deposits WHERE seq = 1").fetchone()
    assert original == 1000


class Kernel:
    """Stand-in: a clock that begins in 1970 and that nobody has set."""

    boot_id = "now"
    zero_ns = 0
    known = False
    boottime_ns_now = 5_000_000_000

    def boottime_ns(self) -> int:
        return self.boottime_ns_now

    def time_ns(self) -> int:
        return self.zero_ns + self.boottime_ns_now

    def synchronised(self) -> bool:
        return self.known


@pytest.mark.parametrize("by_server", [True, False])
def test_a_deposit_from_1970_is_sent_with_the_time_that_was_told_since(tmp_path: Path, by_server: bool) -> None:
    kernel, buffer = Kernel(), make(tmp_path / "deposits.db")
    buffer.enqueue(record(0, accepted_at_ns=EARLIEST_NS + 7), 0)
    clock = MachineClock(kernel, tmp_path / "clock.json")
    keeper = ClockKeeper(clock, buffer, None)
    stamp = clock.now()
    assert stamp.time_ns >= EARLIEST_NS + 7
    made = record(1, accepted_at_ns=stamp.time_ns, accepted_monotonic_ns=stamp.boottime_ns, boot_id="now")
    buffer.enqueue(made, 0)
    buffer.update(made.deposit_id, Stage.TAKEN, True, 0)
    kernel.boottime_ns_now += MINUTE
    assert keeper.correct() == 0
    if by_server:
        keeper.hear_server(2 * EARLIEST_NS / 1e9)
    else:
        kernel.zero_ns, kernel.known = 2 * EARLIEST_NS, True
    assert keeper.correct() == 1
    (sent,) = buffer.lease(9, 1, 0)[1]
    assert (sent.accepted_at_ns, sent.clock_synchronised) == (2 * EARLIEST_NS + stamp.boottime_ns, True)
    buffer.close()


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "deposits.db"
    make(file).close()
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StorageError, match="newer than this software"):
        make(file)
    assert file.read_bytes() == before


def test_a_file_that_another_process_writes_is_a_clear_line(buffer: DepositBuffer) -> None:
    other = sqlite3.connect(buffer.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        buffer.enqueue(record(), 0)
    other.execute("ROLLBACK")
    other.close()
    buffer.enqueue(record(), 0)


# Full disk


def fill(buffer: DepositBuffer) -> int:
    """Enqueue until the disk is full; how many were stored."""
    for number in range(5000):
        try:
            buffer.enqueue(record(number), 0)
        except StorageError as error:
            assert "full" in str(error) or "disk I/O" in str(error)  # noqa: PT017
            return number
    raise AssertionError("the disk was never full")


def test_database_that_may_not_grow_refuses_whole_deposits_and_recovers(buffer: DepositBuffer) -> None:
    connection = buffer._connection
    connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0]}")
    stored = fill(buffer)
    assert not buffer.status(0).writable
    assert buffer.status(0).held == stored
    connection.execute("PRAGMA max_page_count=1000000")
    buffer.probe(0)
    assert buffer.status(0).writable
    buffer.enqueue(record(stored), 0)
    assert buffer.status(0).held == stored + 1
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here; PRAGMA max_page_count stands for it in another test")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_full_disk_refuses_whole_deposits_and_recovers(small_disk: Path) -> None:
    filler = small_disk / "filler"
    buffer = make(small_disk / "deposits.db")
    filler.write_bytes(b"x" * 200_000)
    stored = fill(buffer)
    assert stored > 0
    assert buffer.status(0).held == stored
    filler.unlink()
    buffer.probe(0)
    buffer.enqueue(record(stored), 0)
    buffer.close()
    buffer = make(small_disk / "deposits.db")
    assert buffer.reports == []
    assert buffer.status(0).held == stored + 1
    buffer.close()


# Damaged files


def damaged_copy(tmp_path: Path, count: int, damage: Any) -> Path:
    file = tmp_path / "deposits.db"
    buffer = make(file)
    ids = taken(buffer, count)
    buffer.lease(count // 2, MINUTE, 0)
    buffer.ack(ids[: count // 4], 0)
    buffer.enqueue_telemetry([TelemetryRecord(number, "health", "cpu_percent", 0.5) for number in range(5)])
    buffer.close()
    raw = bytearray(file.read_bytes())
    file.write_bytes(damage(raw))
    return file


def page_of(raw: bytearray, kind: int, text: bytes) -> int:
    """Number of the page of this kind that holds the text."""
    for number in range(len(raw) // PAGE_BYTES):
        page = raw[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
        if page[0] == kind and text in page:
            return number
    raise AssertionError("no such page")


def overwrite(raw: bytearray, page: int) -> bytearray:
    raw[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = random.Random(1).randbytes(PAGE_BYTES)
    return raw


def test_without_its_header_every_row_is_saved(tmp_path: Path) -> None:
    file = damaged_copy(tmp_path, 100, lambda raw: overwrite(raw, 0))
    buffer = make(file, now_ns=1_700_000_000_000_000_000)
    (report,) = buffer.reports
    assert (report.deposits, report.telemetry, report.damaged) == (100, 5, 0)
    assert report.aside.name == "deposits.damaged-20231114T221320Z.db"
    assert report.aside.stat().st_size > 0
    status = buffer.status(0)
    assert (status.acked, status.leased, status.pending, status.salvaged) == (25, 25, 50, 100)
    assert buffer.lease(500, MINUTE, 2 * MINUTE)[1][0] == record(25, stage=Stage.TAKEN, shown=True, attempts=2)
    buffer.close()
    assert make(file).reports == []


def test_a_lost_page_of_rows_is_known_by_the_ids_of_its_deposits(tmp_path: Path) -> None:
    wanted = record(50).deposit_id.encode()
    file = damaged_copy(tmp_path, 100, lambda raw: overwrite(raw, page_of(raw, 0x0D, wanted)))
    buffer = make(file)
    (report,) = buffer.reports
    assert report.deposits + len(report.lost) == 100
    assert wanted.decode() in report.lost
    assert report.complete
    assert 0 < len(report.lost) < 20
    buffer.close()


def test_a_lost_index_page_loses_no_row(tmp_path: Path) -> None:
    wanted = record(50).deposit_id.encode()
    file = damaged_copy(tmp_path, 100, lambda raw: overwrite(raw, page_of(raw, 0x0A, wanted)))
    buffer = make(file)
    assert buffer.reports[0].deposits == 100
    assert buffer.reports[0].lost == ()
    buffer.close()


def test_a_truncated_file_gives_what_is_left_and_names_what_is_known_to_be_lost(tmp_path: Path) -> None:
    file = damaged_copy(tmp_path, 200, lambda raw: raw[: len(raw) // 2 // PAGE_BYTES * PAGE_BYTES + 100])
    buffer = make(file)
    (report,) = buffer.reports
    assert report.deposits > 0
    assert len(report.lost) > 0
    assert report.deposits + len(report.lost) <= 200
    assert buffer.status(0).salvaged == report.deposits
    buffer.close()


@pytest.mark.parametrize("content", [b"", b"not a database at all, " * 999])
def test_a_file_that_is_nothing_is_set_aside_and_reported(tmp_path: Path, content: bytes) -> None:
    file = damaged_copy(tmp_path, 4, lambda raw: content)
    buffer = make(file)
    assert buffer.reports[0].deposits == 0
    assert not buffer.reports[0].complete
    assert buffer.reports[0].aside.read_bytes() == content
    buffer.enqueue(record(9), 0)
    buffer.close()


def test_a_changed_letter_inside_a_row_is_never_credited(tmp_path: Path) -> None:
    def damage(raw: bytearray) -> bytearray:
        place = raw.index(b"alice", raw.index(record(2).deposit_id.encode(), page_of(raw, 0x0D, b"alice") * PAGE_BYTES))
        raw[place : place + 5] = b"mally"
        return raw

    file = damaged_copy(tmp_path, 4, damage)
    buffer = make(file)
    records = buffer.lease(10, MINUTE, 2 * MINUTE)[1]
    assert {made.session.account_id for made in records} == {"alice"}
    assert buffer.status(0).dead == 1
    buffer.close()


def test_damage_that_is_met_while_running_is_salvaged_then(tmp_path: Path) -> None:
    buffer = make(tmp_path / "deposits.db")
    taken(buffer, 200)
    buffer._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with buffer.file.open("r+b") as stream:
        raw = bytearray(stream.read())
        stream.seek(page_of(raw, 0x0D, record(100).deposit_id.encode()) * PAGE_BYTES)
        stream.write(b"\xff" * PAGE_BYTES)
    buffer._connection.execute("PRAGMA shrink_memory")
    sent: list[str] = []
    for turn in range(40):
        leased = [made.deposit_id for made in buffer.lease(10, MINUTE * 1000, turn)[1]]
        buffer.ack(leased, turn)
        sent += leased
    (report,) = buffer.reports
    assert len(sent) == report.deposits == 200 - len(report.lost)
    assert len(set(sent)) == len(sent)
    buffer.close()


def test_a_crash_between_setting_aside_and_beginning_anew_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = damaged_copy(tmp_path, 50, lambda raw: overwrite(raw, 0))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            make(file)
    buffer = make(file)
    assert buffer.status(0).acked + buffer.status(0).leased + buffer.status(0).pending == 50
    buffer.close()


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damaged_copy(tmp_path_factory.mktemp("whole"), 60, lambda raw: raw)


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_whatever_bytes_change_no_deposit_is_altered_or_sent_twice(whole_file: Path, data: st.DataObject) -> None:
    raw = bytearray(whole_file.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(raw) - 1))
        length = data.draw(st.sampled_from((1, 8, 512, 4096)))
        raw[place : place + length] = random.Random(data.draw(st.integers(0, 99))).randbytes(length)
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(1, len(raw)))]
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        file = Path(folder) / "deposits.db"
        file.write_bytes(raw)
        try:
            buffer = make(file)
        except StorageError as error:
            assert "newer than this software" in str(error)  # noqa: PT017
            return
        originals = {record(number).deposit_id: record(number) for number in range(60)}
        sent: list[DepositRecord] = []
        for turn in range(70):
            sent += buffer.lease(1, MINUTE * 1000, 10 * MINUTE + turn)[1]
        assert len({made.deposit_id for made in sent}) == len(sent)
        for made in sent:
            original = originals[made.deposit_id]
            assert replace(made, stage=original.stage, shown=False, attempts=0) == original
        buffer.close()


def test_two_files_of_one_second_get_two_names(tmp_path: Path) -> None:
    names: set[Path] = set()
    for _ in range(2):
        file = damaged_copy(tmp_path, 4, lambda raw: overwrite(raw, 0))
        buffer = make(file)
        names.add(buffer.reports[0].aside)
        buffer.close()
        for leftover in tmp_path.glob("deposits.db*"):
            leftover.unlink()
    assert len(names) == 2


def test_a_checkpoint_leaves_all_in_the_file_and_nothing_in_the_log(buffer: DepositBuffer, tmp_path: Path) -> None:
    ids = taken(buffer, 3)
    log = tmp_path / "deposits.db-wal"
    assert log.stat().st_size > 0
    buffer.checkpoint()
    assert log.stat().st_size == 0
    (tmp_path / "copy.db").write_bytes((tmp_path / "deposits.db").read_bytes())
    copy = make(tmp_path / "copy.db")
    assert [row.deposit_id for row in copy.lease(10, MINUTE, 0)[1]] == ids
    copy.close()


def test_a_new_buffer_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PowerCut(BaseException):
        pass

    def cut(*_: object) -> None:
        raise PowerCut

    file = tmp_path / "deposits.db"
    with monkeypatch.context() as broken:
        broken.setattr("myrvm_cloud.schema.migrate", cut)
        with pytest.raises(PowerCut):
            make(file)
    assert not file.exists(), "an empty file would be taken for a damaged one"
    made = make(file)
    assert made.reports == []
    made.close()


def test_no_question_that_is_asked_often_looks_at_every_row(buffer: DepositBuffer) -> None:
    asked: list[str] = []
    buffer._connection.set_trace_callback(asked.append)
    taken(buffer, 3)
    buffer.list_open()
    buffer.correct("now", 1, 1)
    buffer.ack([made.deposit_id for made in buffer.lease(2, MINUTE, 0)[1]], 0)
    buffer.expire(2 * MINUTE)
    buffer.decide(Decision.PARK, [record(0).deposit_id], "", 0)
    buffer.enqueue_telemetry([TelemetryRecord(1, "a", "b", 2.0)] * 12)
    buffer.ack_telemetry(buffer.lease_telemetry(5)[0])
    buffer.status(0)
    buffer._connection.set_trace_callback(None)
    questions = {text for text in asked if text.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT")}
    assert len(questions) > 20
    few = ("telemetry", "counts", "json_each", "deposits USING INDEX deposits_open", "(subquery", "CONSTANT")
    few += ("deposits USING INDEX deposits_undated",)  # only whether there is one
    scans = {
        text: plan
        for text in questions
        for *_, plan in buffer._connection.execute(f"EXPLAIN QUERY PLAN {text}")
        if plan.startswith("SCAN ") and not plan[5:].startswith(few)
    }
    assert scans == {}


def test_a_lease_is_synced_where_it_must_outlast_a_power_cut(buffer: DepositBuffer) -> None:
    levels: list[int] = []

    def traced(statement: str) -> None:
        if statement.startswith("UPDATE deposits SET state = 'leased'"):
            levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])

    connection = buffer._connection
    taken(buffer, 4)
    connection.execute("UPDATE deposits SET clock_synchronised = 1 WHERE seq > 1")
    connection.set_trace_callback(traced)
    buffer.ack([made.deposit_id for made in buffer.lease(1, MINUTE, 0)[1]], 0)  # its time may still be corrected
    buffer.ack([made.deposit_id for made in buffer.lease(1, MINUTE, 0)[1]], 0)
    buffer.lease(1, MINUTE, 0, once=True)
    connection.set_trace_callback(None)
    assert [level for level, before in zip(levels, [0, *levels], strict=False) if level != before] == [2, 1, 2]
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
