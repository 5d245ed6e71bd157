"""Read what can be read of a damaged buffer file: first through SQLite around the damage, then page by page without it.

The second way parses table leaf pages of the file and of its write-ahead log as https://sqlite.org/fileformat2.html
describes them, so it works without the header, the schema or the tree above the page.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from myrvm_cloud.schema import ADDED_COLUMNS, DEPOSIT_COLUMNS, PAGE_BYTES, ROW_LENGTHS, TELEMETRY_COLUMNS, crc_of

Row = dict[str, Any]
TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR = 0x0D, 0x0A, 0x02
WAL_HEADER_BYTES, WAL_FRAME_HEADER_BYTES = 32, 24
# Further along wins where a page and its older copy both hold a row.
RANK = {"held": 0, "pending": 1, "leased": 2, "uncertain": 3, "dead": 4, "void": 5, "acked": 6}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Salvage:
    """What was saved. `lost` are deposits known to have been there; `lost_is_complete`: no others can be missing."""

    deposits: dict[str, Row] = field(default_factory=dict)
    telemetry: dict[int, Row] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    lost_is_complete: bool = False

    @property
    def gaps(self) -> int:
        """Numbers missing between the first and the last row: rows lost, or credited and deleted long ago."""
        numbers = [row["seq"] for row in self.deposits.values()]
        return max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0


def salvage(file: Path) -> Salvage:
    """Read a damaged file and its `-wal`; both stay as they are. Needs room for a copy beside the file.

    Raises:
        OSError: the files cannot be read or copied.
    """
    found = Salvage()
    with tempfile.TemporaryDirectory(prefix="salvage-", dir=file.parent) as folder:
        copy = Path(folder) / file.name
        for suffix in ("", "-wal"):
            if (source := file.with_name(file.name + suffix)).exists():
                shutil.copyfile(source, copy.with_name(copy.name + suffix))
        _read_through_sqlite(copy, found)
    for page in _pages(file):
        for row in _rows_of_page(page):
            _keep(row, found)
        found.lost |= _ids_of_page(page)
    found.lost -= found.deposits.keys()
    return found


def _read_through_sqlite(file: Path, found: Salvage) -> None:
    try:
        connection = sqlite3.connect(file)
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
    except (sqlite3.Error, UnicodeDecodeError):
        return
    try:
        there = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('deposits')")}
        deposit_columns = tuple(name for name in DEPOSIT_COLUMNS if name in there or name not in ADDED_COLUMNS)
        for table, columns in (("deposits", deposit_columns), ("telemetry", TELEMETRY_COLUMNS)):
            for values in _around_damage(connection, table, columns):
                _keep(dict(zip(columns, values, strict=True)), found, live=True)
        # The index of deposit_id has pages of its own: it names the rows whose pages are gone.
        index = "SELECT deposit_id FROM deposits INDEXED BY sqlite_autoindex_deposits_1 ORDER BY deposit_id"
        for (deposit_id,) in connection.execute(index):
            if isinstance(deposit_id, str) and _UUID.fullmatch(deposit_id):
                found.lost.add(deposit_id)
        found.lost_is_complete = True
    except (sqlite3.Error, UnicodeDecodeError):
        return  # whatever SQLite cannot reach, the pages may still hold
    finally:
        connection.close()


def _around_damage(connection: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Rows from the first to the damage, then from the last back to it; the pages between are left to the scan."""
    for order in ("ASC", "DESC"):
        try:
            yield from connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY seq {order}")
            return
        except (sqlite3.Error, UnicodeDecodeError):
            continue


def _keep(row: Row, found: Salvage, live: bool = False) -> None:
    if "deposit_id" not in row:
        found.telemetry.setdefault(row["seq"], row)
        return
    if not _UUID.fullmatch(str(row["deposit_id"])) or row["state"] not in RANK:
        return
    row = ADDED_COLUMNS | row
    order = (crc_of(row) == row["crc"], live, RANK[row["state"]], row["changed_at_ns"])
    known = found.deposits.get(row["deposit_id"])
    if known is None or order > known["order"]:
        found.deposits[row["deposit_id"]] = row | {"order": order, "live": live}


def _pages(file: Path) -> Iterator[bytes]:
    """Every page of the file, then every frame of its log that was begun after the log's last restart."""
    if file.exists():
        with file.open("rb") as stream:
            while page := stream.read(PAGE_BYTES):
                yield page.ljust(PAGE_BYTES, b"\0")
    log = file.with_name(file.name + "-wal")
    if not log.exists():
        return
    with log.open("rb") as stream:
        salts = stream.read(WAL_HEADER_BYTES)[16:24]
        while frame := stream.read(WAL_FRAME_HEADER_BYTES + PAGE_BYTES):
            if frame[8:16] == salts:
                yield frame[WAL_FRAME_HEADER_BYTES:].ljust(PAGE_BYTES, b"\0")


def _cells(page: bytes, kinds: tuple[int, ...]) -> Iterator[int]:
    """Offsets of a page's cells, none where the page is of another kind."""
    start = 100 if page.startswith(b"SQLite format 3\0") else 0
    if page[start] not in kinds:
        return
    header = start + (12 if page[start] == INDEX_INTERIOR else 8)
    (count,) = struct.unpack_from(">H", page, start + 3)
    for number in range(min(count, (PAGE_BYTES - header) // 2)):
        yield struct.unpack_from(">H", page, header + 2 * number)[0]


def _rows_of_page(page: bytes) -> Iterator[Row]:
    """Rows of one table leaf page. Cells that make no sense are passed over."""
    for offset in _cells(page, (TABLE_LEAF,)):
        try:
            length, offset = _varint(page, offset)
            seq, offset = _varint(page, offset)
            values = _record(page, offset, length)
        except (IndexError, ValueError):
            continue
        for columns, types in ((DEPOSIT_COLUMNS, _DEPOSIT_TYPES), (TELEMETRY_COLUMNS, _TELEMETRY_TYPES)):
            if columns is DEPOSIT_COLUMNS and len(values) in ROW_LENGTHS:
                values += list(ADDED_COLUMNS.values())[len(values) - ROW_LENGTHS[0] :]
            if len(values) == len(columns):
                # An INTEGER PRIMARY KEY is stored as the row's number; a whole REAL as an integer.
                row = [seq, *values[1:]]
                row = [float(v) if float in t and isinstance(v, int) else v for v, t in zip(row, types, strict=True)]
                if all(isinstance(value, allowed) for value, allowed in zip(row, types, strict=True)):
                    yield dict(zip(columns, row, strict=True))


def _ids_of_page(page: bytes) -> set[str]:
    """Deposit ids in one page of the index over them, which outlives the rows' own pages."""
    ids: set[str] = set()
    for offset in _cells(page, (INDEX_LEAF, INDEX_INTERIOR)):
        try:
            length, offset = _varint(page, offset + (4 if page[0] == INDEX_INTERIOR else 0))
            values = _record(page, offset, length)
        except (IndexError, ValueError):
            continue
        if len(values) == 2 and isinstance(values[0], str) and _UUID.fullmatch(values[0]):
            ids.add(values[0])
    return ids


def _record(page: bytes, offset: int, length: int) -> list[Any]:
    """A record's values; IndexError or ValueError where the bytes are none."""
    header_length, position = _varint(page, offset)
    body = offset + header_length
    values: list[Any] = []
    while position < offset + header_length:
        kind, position = _varint(page, position)
        value, body = _value(page, body, kind)
        values.append(value)
    if body != offset + length:
        raise ValueError("the record has another length than its columns")
    return values


def _types(columns: tuple[str, ...], texts: set[str], reals: set[str], empty: set[str]) -> list[tuple[type, ...]]:
    return [
        ((str,) if name in texts else (float,) if name in reals else (int,)) + ((type(None),) if name in empty else ())
        for name in columns
    ]


_DEPOSIT_TYPES = _types(
    DEPOSIT_COLUMNS,
    {"deposit_id", "session_id", "account_id", "class_name", "model_name", "model_version", "model_sha256", "state",
     "lease_id", "reason", "boot_id"},
    {"score", "weight_kg"},
    {"weight_kg", "corrected_at_ns"},
)  # fmt: skip
_TELEMETRY_TYPES = _types(TELEMETRY_COLUMNS, {"source", "name"}, {"value"}, {"value"})


def _varint(page: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for length in range(9):
        byte = page[offset + length]
        if length == 8:
            return (value << 8) | byte, offset + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, offset + length + 1
    raise ValueError("not a varint")


def _value(page: bytes, offset: int, kind: int) -> tuple[Any, int]:
    """A column's value by its serial type, and where the next begins."""
    if kind in (0, 8, 9):
        return (None, 0, 1)[(0, 8, 9).index(kind)], offset
    if kind in (10, 11):
        raise ValueError("reserved serial type")
    length = (0, 1, 2, 3, 4, 6, 8, 8)[kind] if kind < 8 else (kind - 12) // 2
    raw = page[offset : offset + length]
    if len(raw) != length:
        raise IndexError("beyond the page")
    if kind == 7:
        return struct.unpack(">d", raw)[0], offset + 8
    if kind < 7:
        return int.from_bytes(raw, "big", signed=True), offset + length
    return (raw.decode("utf-8", "replace") if kind % 2 else raw), offset + length
