"""Deposits in a file: JSON lines or CSV to look at, a signed one that a server can import where there is no network.

A signed file is one line with a signed header (a JWS of kind `rvm-deposits`: machine, count, size and SHA-256 of the
body), then the body in gzip: a line of JSON a deposit, worded as the network would word it, idempotency key included.
So it may be imported before, after or besides the network, and each deposit is credited once.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Annotated, Any, ClassVar

import uuid_utils
from myrvm_core.claims import Claims, EpochSeconds, MachineId
from myrvm_core.deposit_record import DepositRecord
from myrvm_core.errors import SignatureError, StorageError
from myrvm_core.signing import DOCUMENT_BYTES, KeyRing, PublicKey, SigningKey
from pydantic import Field

from myrvm_cloud.rest_client import MyrvmClient
from myrvm_core import durable

BODY_BYTES = 1 << 30
LINE_BYTES = 65_536
TOGETHER = 500
_WORDS = MyrvmClient("http://localhost", "export", "")


class Header(Claims):
    """What a file of deposits says about itself."""

    KIND: ClassVar[str] = "rvm-deposits"
    PURPOSE: ClassVar[str] = "rvm-deposits"

    machine: MachineId
    export_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]
    made_at: EpochSeconds
    deposits: Annotated[int, Field(ge=1, le=10_000_000)]
    body_bytes: Annotated[int, Field(ge=1, le=BODY_BYTES)]
    body_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def write_signed(file: Path, records: Iterable[DepositRecord], machine: str, key: SigningKey, epoch_s: float) -> Header:
    """Write a signed file; it is whole on the disk under its name, or not there.

    Args:
        file: replaced where it exists.
        records: at least one.
        machine: HARDWARE_ID.
        key: the machine's own.
        epoch_s: the time of day, s since the epoch.

    Raises:
        StorageError: there is nothing to write, or the disk does not take it.
    """
    body, partial = (file.with_name(f"{file.name}{suffix}") for suffix in (".body", durable.PARTIAL))
    digest, size, count = hashlib.sha256(), 0, 0
    try:
        with body.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
            for line in _lines(records):
                digest.update(line)
                packed.write(line)
                size, count = size + len(line), count + 1
        if not count:
            raise StorageError(f"{file} is not written: there is no deposit to export")
        header = Header(
            machine=machine, export_id=str(uuid_utils.uuid7()), made_at=int(epoch_s), deposits=count, body_bytes=size,
            body_sha256=digest.hexdigest(),
        )  # fmt: skip
        with partial.open("wb") as whole, body.open("rb") as packed_body:
            whole.write(header.sign(key).encode() + b"\n")
            shutil.copyfileobj(packed_body, whole)
            whole.flush()
            os.fsync(whole.fileno())
        durable.rename(partial, file)
        return header
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error}") from error
    finally:
        body.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def read_signed(file: IO[bytes], ring: KeyRing, epoch_s: float) -> tuple[Header, PublicKey]:
    """Check a file as a whole, before anything in it is believed; then `deposits` reads it. Who signed it comes along.

    Args:
        file: from its beginning; it can be read again.
        ring: who is trusted.
        epoch_s: the time of day, for the validity of the key.

    Raises:
        SignatureError: it is no such file, not signed by a key that may, or damaged.
    """
    try:
        line = file.readline(DOCUMENT_BYTES + 1)
        header, key = Header.read(line.removesuffix(b"\n").decode("ascii"), ring, epoch_s)
        digest, size, count = hashlib.sha256(), 0, 0
        for line in _body(file, header.body_bytes):
            digest.update(line)
            size, count = size + len(line), count + 1
    except UnicodeDecodeError:
        raise SignatureError("no signed file of deposits") from None
    except (OSError, EOFError, zlib.error) as error:
        raise SignatureError(f"a damaged file: {error}") from error
    if (size, count, digest.hexdigest()) != (header.body_bytes, header.deposits, header.body_sha256):
        raise SignatureError(
            f"a damaged file: {count} deposits in {size} bytes; signed were {header.deposits} in {header.body_bytes}"
        )
    return header, key


def deposits(file: IO[bytes]) -> Iterator[Any]:
    """What a file says that `read_signed` has checked, a deposit at a time; None where a line is no JSON."""
    file.seek(0)
    file.readline(DOCUMENT_BYTES + 1)
    for line in _body(file, BODY_BYTES):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            yield None


def _lines(records: Iterable[DepositRecord]) -> Iterator[bytes]:
    together: list[DepositRecord] = []
    for record in records:
        together.append(record)
        if len(together) == TOGETHER:
            yield from _worded(together)
            together.clear()
    yield from _worded(together)


def _worded(records: list[DepositRecord]) -> Iterator[bytes]:
    if records:
        for deposit in json.loads(_WORDS.deposits(records).body)["deposits"]:
            yield json.dumps(deposit, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def _body(file: IO[bytes], limit: int) -> Iterator[bytes]:
    """Lines of the packed body; SignatureError where it is larger than was said, or a line is too long."""
    size = 0
    with gzip.GzipFile("", "rb", fileobj=file) as packed:
        while line := packed.readline(LINE_BYTES):
            size += len(line)
            if size > limit or not line.endswith(b"\n"):
                raise SignatureError(f"a damaged file: a body of more than {limit} bytes, or a line that does not end")
            yield line


def write_json_lines(rows: Iterable[Mapping[str, Any]], out: IO[str]) -> int:
    """Every column of every row; returns how many rows."""
    count = 0
    for row in rows:
        out.write(json.dumps(dict(row)) + "\n")
        count += 1
    return count


def write_csv(rows: Iterable[Mapping[str, Any]], out: IO[str]) -> int:
    """Every column of every row under a line of names; returns how many rows."""
    writer, count = None, 0
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(out, list(row), lineterminator="\n")
            writer.writeheader()
        count += 1
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return count


def write_whole(file: Path, write: Callable[[IO[str]], int]) -> int:
    """Have `write(text)` fill a file that is then there as a whole; StorageError where the disk does not take it."""
    text = io.StringIO(newline="")
    count = write(text)
    try:
        durable.replace(file, text.getvalue().encode())
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error}") from error
    return count


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets a quote before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
