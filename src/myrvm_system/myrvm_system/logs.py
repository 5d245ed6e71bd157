"""Reads the nodes' JSON lines: the last ones of all nodes merged by time, then new ones as they come."""

from __future__ import annotations

import heapq
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myrvm_core.log import LEVELS

FOLLOW_PERIOD_S = 0.3
_SHOWN = ("time", "level", "node", "message")


@dataclass(frozen=True, order=True)
class Line:
    """One event."""

    time: str
    node: str
    level: str
    message: str
    rest: str = ""  # the other fields as `name=value`

    def at_least(self, level: str) -> bool:
        """Whether its level is `level` or worse; an unknown level is shown."""
        own = self.level.upper()
        return own not in LEVELS or LEVELS.index(own) >= LEVELS.index(level.upper())


def parse(text: str, node: str) -> Line | None:
    """One line of a file; None for an empty one. A line that is no JSON (a torn write) is shown as it is."""
    if not text.strip():
        return None
    try:
        event: Any = json.loads(text)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        return Line("", node, "warning", text.strip())
    rest = " ".join(f"{name}={value}" for name, value in event.items() if name not in _SHOWN)
    text_of = {name: str(event.get(name, "")) for name in _SHOWN}
    return Line(text_of["time"], text_of["node"] or node, text_of["level"], text_of["message"], rest)


def files(folder: Path, node: str = "") -> list[Path]:
    """Log files, older (rotated) ones of a node first."""
    found = folder.glob(f"{node or '*'}.jsonl*")
    return sorted(found, key=lambda path: (path.name.partition(".")[0], -_age(path)))


def last(folder: Path, node: str = "", level: str = "DEBUG", count: int = 100) -> list[Line]:
    """The last `count` events, merged by time."""
    lines = (line for path in files(folder, node) for line in _read(path) if line.at_least(level))
    return sorted(heapq.nlargest(count, lines))


def follow(folder: Path, node: str = "", level: str = "DEBUG") -> Iterator[Line]:
    """Events as they come, for ever; also of nodes and files that begin later, and after a rotation."""
    positions = {path: path.stat().st_size for path in files(folder, node) if _age(path) == 0}
    while True:
        batch: list[Line] = []
        for path in files(folder, node):
            if _age(path) > 0:
                continue
            size, position = path.stat().st_size, positions.get(path, 0)
            if size < position:
                position = 0  # rotated
            if size == position:
                continue
            with path.open("rb") as file:
                file.seek(position)
                data = file.read(size - position)
            whole = data.rfind(b"\n") + 1
            positions[path] = position + whole
            name = path.name.partition(".")[0]
            parsed = (parse(text, name) for text in data[:whole].decode(errors="replace").splitlines())
            batch += [line for line in parsed if line is not None and line.at_least(level)]
        yield from sorted(batch)
        time.sleep(FOLLOW_PERIOD_S)


def _read(path: Path) -> deque[Line]:
    name = path.name.partition(".")[0]
    with path.open(encoding="utf-8", errors="replace") as file:
        return deque(line for text in file if (line := parse(text, name)) is not None)


def _age(path: Path) -> int:
    """0 for the file that is written now, 1 for the one before it, and so on."""
    suffix = path.suffix.removeprefix(".")
    return int(suffix) if suffix.isdigit() else 0
