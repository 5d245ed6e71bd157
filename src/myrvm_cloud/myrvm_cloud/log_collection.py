"""Lines of the nodes' logs for the operator: newest first until a bound is reached, packed, nothing secret in them.

Secrets are masked when a line is written (`myrvm_core.log`). Here each line is masked again, nested fields and words
inside texts too, before it leaves the machine; a line that is no JSON object, such as a torn one, stays.
"""

from __future__ import annotations

import gzip
import heapq
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from myrvm_core.errors import StorageError
from myrvm_core.log import redact

from myrvm_cloud.contract import UPLOAD_BYTES

LINES_BYTES = 16_000_000  # before they are packed
BLOCK_BYTES = 65_536
MASK = "**********"
SHORTEST_SECRET = 4  # a shorter one is found in every other word
_SECRET_IN_TEXT = re.compile(
    r"(?i)(?P<name>(?:api[_-]?key|token|password|secret)\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s&\"'\\,}]+"
    r"|eyJ[\w-]+\.[\w-]+\.[\w-]+"  # a signed document, such as a voucher
)


@dataclass(frozen=True)
class Collection:
    """What is sent: `packed` is gzip of JSON lines, oldest first; `files` are those that they come from."""

    packed: bytes
    lines: int
    files: tuple[str, ...]
    whole: bool  # nothing of what was asked for was left out because of its size


@dataclass(frozen=True)
class _Line:
    time: str
    text: bytes
    file: str


def collect(
    folder: Path,
    since_s: float,
    node: str = "",
    secrets: Sequence[str] = (),
    lines_bytes: int = LINES_BYTES,
    packed_bytes: int = UPLOAD_BYTES,
) -> Collection:
    """The newest lines.

    Args:
        folder: of `<node>.jsonl` and its rotated files.
        since_s: older lines are left out, s since the epoch.
        node: whose; empty: all nodes'.
        secrets: values that must not be in a line whatever its field is called.
        lines_bytes: bound of what is packed.
        packed_bytes: bound of the packed.

    Raises:
        StorageError: a file cannot be read.
    """
    since = datetime.fromtimestamp(since_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    nodes = [node] if node else sorted({path.name.partition(".")[0] for path in folder.glob("*.jsonl*")})
    hidden = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
    streams = [_newest_first(folder, name, since, since_s, hidden) for name in nodes]
    kept: list[_Line] = []
    size, whole = 0, True
    try:
        for line in heapq.merge(*streams, key=lambda line: line.time, reverse=True):
            size += len(line.text)
            if size > lines_bytes:
                whole = False
                break
            kept.append(line)
    except OSError as error:
        raise StorageError(f"logs in {folder} cannot be read: {error}") from error
    while len(packed := _packed(kept)) > packed_bytes:
        kept, whole = kept[: len(kept) // 2], False
    return Collection(packed, len(kept), tuple(sorted({line.file for line in kept})), whole)


def masked(value: Any, secrets: Iterable[str] = ()) -> Any:
    """A value of JSON with every secret in it replaced."""
    if isinstance(value, dict):
        return {masked(name, secrets): masked(part, secrets) for name, part in redact(None, "", value).items()}
    if isinstance(value, list):
        return [masked(part, secrets) for part in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, MASK)
    return _SECRET_IN_TEXT.sub(lambda found: (found["name"] or "") + MASK, value)


def _newest_first(folder: Path, node: str, since: str, since_s: float, secrets: Sequence[str]) -> Iterator[_Line]:
    """Lines of one node, from the end of its newest file on."""
    rotated = sorted(folder.glob(f"{node}.jsonl.*"), key=lambda path: int(path.suffix[1:]))
    for path in (folder / f"{node}.jsonl", *rotated):
        try:
            file = path.open("rb")
        except FileNotFoundError:  # renamed meanwhile
            continue
        with file:
            if os.fstat(file.fileno()).st_mtime < since_s:
                return
            for text in _from_the_end(file):
                if (line := _line(text, path.name, secrets)) is not None and line.time >= since:
                    yield line


def _line(text: bytes, file: str, secrets: Sequence[str]) -> _Line | None:
    try:
        event = json.loads(text)
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(time := event.get("time"), str):
        return None
    return _Line(time, json.dumps(masked(event, secrets), ensure_ascii=False).encode() + b"\n", file)


def _from_the_end(file: BinaryIO) -> Iterator[bytes]:
    end, rest = file.seek(0, os.SEEK_END), b""
    while end > 0:
        begin = max(0, end - BLOCK_BYTES)
        file.seek(begin)
        rest, *lines = (file.read(end - begin) + rest).split(b"\n")
        yield from reversed(lines)
        end = begin
    yield rest


def _packed(newest_first: Sequence[_Line]) -> bytes:
    return gzip.compress(b"".join(line.text for line in reversed(newest_first)), mtime=0)
