"""The buffer's SQLite file: how it is opened, its tables, and the numbered migrations that make and change them.

WAL with synchronous=FULL: a commit has reached the disk before it is answered (https://sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from operator import itemgetter, methodcaller
from pathlib import Path
from typing import Any

from myrvm_core.errors import StorageError

PAGE_BYTES = 4096
BUSY_TIMEOUT_S = 2.0

# Number n (counted from 1) brings a file from user_version n - 1 to n. Never change one that was released: add one.
MIGRATIONS = (
    """
    CREATE TABLE deposits (
        seq INTEGER PRIMARY KEY,                -- order of arrival, whatever the clock did
        deposit_id TEXT NOT NULL UNIQUE,
        session_kind INTEGER NOT NULL, session_id TEXT NOT NULL, account_id TEXT NOT NULL,
        session_started_at_ns INTEGER NOT NULL,
        class_name TEXT NOT NULL, score REAL NOT NULL, points INTEGER NOT NULL, weight_kg REAL,
        accepted_at_ns INTEGER NOT NULL,
        model_name TEXT NOT NULL, model_version TEXT NOT NULL, model_sha256 TEXT NOT NULL,
        crc INTEGER NOT NULL,                   -- CRC-32 of the columns above: damage inside a row is seen
        stage INTEGER NOT NULL, shown INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('held', 'pending', 'leased', 'acked', 'dead', 'void')),
        attempts INTEGER NOT NULL, lease_id TEXT NOT NULL,
        leased_at_ns INTEGER NOT NULL, leased_until_ns INTEGER NOT NULL,
        changed_at_ns INTEGER NOT NULL, reason TEXT NOT NULL
    ) STRICT;
    CREATE INDEX deposits_by_state ON deposits (state, shown);  -- the only one: each index costs a page a commit
    """,
    """
    CREATE TABLE telemetry (
        seq INTEGER PRIMARY KEY,
        stamp_ns INTEGER NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL, value REAL
    ) STRICT;
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO counters VALUES ('telemetry_dropped', 0), ('probe', 0);
    """,
    """
    ALTER TABLE deposits ADD COLUMN accepted_monotonic_ns INTEGER NOT NULL DEFAULT 0;  -- CLOCK_BOOTTIME of boot_id
    ALTER TABLE deposits ADD COLUMN boot_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE deposits ADD COLUMN clock_synchronised INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE deposits ADD COLUMN corrected_at_ns INTEGER;  -- accepted_at_ns, once the clock was set
    """,
    # A CHECK cannot be changed in place: the table is written anew, with one more state and two more columns.
    """
    CREATE TABLE deposits_anew (
        seq INTEGER PRIMARY KEY,
        deposit_id TEXT NOT NULL UNIQUE,
        session_kind INTEGER NOT NULL, session_id TEXT NOT NULL, account_id TEXT NOT NULL,
        session_started_at_ns INTEGER NOT NULL,
        class_name TEXT NOT NULL, score REAL NOT NULL, points INTEGER NOT NULL, weight_kg REAL,
        accepted_at_ns INTEGER NOT NULL,
        model_name TEXT NOT NULL, model_version TEXT NOT NULL, model_sha256 TEXT NOT NULL,
        crc INTEGER NOT NULL,
        stage INTEGER NOT NULL, shown INTEGER NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('held', 'pending', 'leased', 'uncertain', 'acked', 'dead', 'void')),
        attempts INTEGER NOT NULL, lease_id TEXT NOT NULL,
        leased_at_ns INTEGER NOT NULL, leased_until_ns INTEGER NOT NULL,
        changed_at_ns INTEGER NOT NULL, reason TEXT NOT NULL,
        accepted_monotonic_ns INTEGER NOT NULL, boot_id TEXT NOT NULL, clock_synchronised INTEGER NOT NULL,
        corrected_at_ns INTEGER,
        once INTEGER NOT NULL,                  -- leased to a sender whose server knows no keys
        exported_at_ns INTEGER NOT NULL         -- 0: never in a signed file
    ) STRICT;
    INSERT INTO deposits_anew SELECT *, 0, 0 FROM deposits;
    DROP TABLE deposits;
    ALTER TABLE deposits_anew RENAME TO deposits;
    -- Each index costs a page a commit, so each holds only the rows that are asked for in a hurry.
    CREATE INDEX deposits_unsent ON deposits (state, session_id) WHERE state IN ('pending', 'leased');
    CREATE INDEX deposits_open ON deposits (shown) WHERE shown = 0 OR state = 'held';
    CREATE INDEX deposits_undated ON deposits (boot_id)
        WHERE clock_synchronised = 0 AND corrected_at_ns IS NULL AND attempts = 0 AND exported_at_ns = 0;
    CREATE TABLE telemetry_batch (batch_id TEXT NOT NULL, last_seq INTEGER NOT NULL) STRICT;  -- one row, or none
    """,
)
# SQLite uses a partial index where the query says the same words.
UNSENT = "state IN ('pending', 'leased')"
OPEN = "(shown = 0 OR state = 'held')"
UNDATED = "clock_synchronised = 0 AND corrected_at_ns IS NULL AND attempts = 0 AND exported_at_ns = 0"
# Rows are counted as they change, in memory and with their transaction: a count costs no scan and no page.
COUNTS = """
    DROP TABLE IF EXISTS temp.counts;
    CREATE TEMP TABLE counts (name TEXT PRIMARY KEY, amount INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO counts VALUES ('held', 0), ('pending', 0), ('leased', 0), ('uncertain', 0), ('acked', 0), ('dead', 0),
        ('void', 0), ('telemetry', 0);
    UPDATE counts SET amount = found.amount
        FROM (SELECT state AS name, COUNT(*) AS amount FROM deposits GROUP BY state
              UNION ALL SELECT 'telemetry', COUNT(*) FROM telemetry) AS found WHERE found.name = counts.name;
    CREATE TEMP TRIGGER IF NOT EXISTS deposit_added AFTER INSERT ON main.deposits
        BEGIN UPDATE counts SET amount = amount + 1 WHERE name = NEW.state; END;
    CREATE TEMP TRIGGER IF NOT EXISTS deposit_moved AFTER UPDATE OF state ON main.deposits WHEN OLD.state != NEW.state
        BEGIN UPDATE counts SET amount = amount - 1 WHERE name = OLD.state;
              UPDATE counts SET amount = amount + 1 WHERE name = NEW.state; END;
    CREATE TEMP TRIGGER IF NOT EXISTS deposit_deleted AFTER DELETE ON main.deposits
        BEGIN UPDATE counts SET amount = amount - 1 WHERE name = OLD.state; END;
    CREATE TEMP TRIGGER IF NOT EXISTS telemetry_added AFTER INSERT ON main.telemetry
        BEGIN UPDATE counts SET amount = amount + 1 WHERE name = 'telemetry'; END;
    CREATE TEMP TRIGGER IF NOT EXISTS telemetry_deleted AFTER DELETE ON main.telemetry
        BEGIN UPDATE counts SET amount = amount - 1 WHERE name = 'telemetry'; END;
"""
DEPOSIT_COLUMNS = (
    "seq", "deposit_id", "session_kind", "session_id", "account_id", "session_started_at_ns", "class_name", "score",
    "points", "weight_kg", "accepted_at_ns", "model_name", "model_version", "model_sha256", "crc", "stage", "shown",
    "state", "attempts", "lease_id", "leased_at_ns", "leased_until_ns", "changed_at_ns", "reason",
    "accepted_monotonic_ns", "boot_id", "clock_synchronised", "corrected_at_ns", "once", "exported_at_ns",
)  # fmt: skip
# Columns of the third and fourth migration, with what they hold in rows that are older.
ADDED_COLUMNS = {
    "accepted_monotonic_ns": 0, "boot_id": "", "clock_synchronised": 0, "corrected_at_ns": None, "once": 0,
    "exported_at_ns": 0,
}  # fmt: skip
ROW_LENGTHS = (24, 28, 30)  # of the first two, of the third, of the fourth migration
CONTENT_COLUMNS = DEPOSIT_COLUMNS[1 : DEPOSIT_COLUMNS.index("crc")]
_CONTENT, _ENCODE = itemgetter(*CONTENT_COLUMNS), json.JSONEncoder().encode
TELEMETRY_COLUMNS = ("seq", "stamp_ns", "source", "name", "value")


def crc_of(row: Mapping[str, Any]) -> int:
    """CRC-32 of a deposit's content, which never changes after it was enqueued."""
    return crc_of_content(_CONTENT(row))


def crc_of_content(values: Sequence[Any]) -> int:
    """The same from the values of `CONTENT_COLUMNS`."""
    return zlib.crc32(_ENCODE(values).encode())


def connect(file: Path) -> sqlite3.Connection:
    """Open the file with the pragmas that a buffer needs. Transactions are begun and ended by hand."""
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.text_factory = methodcaller("decode", "utf-8", "replace")  # a damaged text is seen by its CRC
    try:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        # secure_delete: no page holds rows that are no longer true, should the file have to be salvaged.
        for pragma in (
            "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY"
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, file: Path) -> None:
    """Bring the file to the newest schema, each step in a transaction of its own.

    Raises:
        StorageError: the file is newer than this software.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StorageError(
            f"{file} has schema version {version}, newer than this software knows; allowed: 0 .. {len(MIGRATIONS)}"
        )
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version={number}; COMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
