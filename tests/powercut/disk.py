"""The disk after a power cut, rebuilt from what `recorder.c` wrote down.

A file's bytes are safe once the file was synced, a name once its folder was. What was not synced at the moment of the
cut is lost or kept by chance: each 512-byte sector of each write and each change of a name by itself. With `journal`
it is the kinder disk of ext4: names change in one order for the whole disk.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from pathlib import Path

SECTOR_BYTES = 512
SOURCE = Path(__file__).with_name("recorder.c")
_HEAD = struct.Struct("<IIQQQIIII")


class Kind(IntEnum):
    """Numbers equal those in recorder.c."""

    WRITE = 1
    TRUNCATE = 2
    CREATE = 3
    RENAME = 4
    LINK = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    SYNC = 9
    SYNC_ALL = 10
    MAP = 11
    MARK = 12


@dataclass(frozen=True)
class Record:
    """One call; `inode` is the file's, paths are relative to the recorded folder."""

    kind: Kind
    time_ns: int
    inode: int
    offset: int
    process: int
    path: str
    other: str
    data: bytes

    def __str__(self) -> str:
        if self.kind is Kind.MARK:
            return f"mark {self.data.decode()}"
        where = f" {self.offset}+{len(self.data)}" if self.kind is Kind.WRITE else ""
        return f"{self.kind.name.lower()} {self.path}{' -> ' + self.other if self.other else ''}{where}"


def read_log(file: Path) -> list[Record]:
    """All records of a log; one that a killed process has not finished ends it."""
    raw = file.read_bytes() if file.exists() else b""
    records: list[Record] = []
    position = 0
    while position + _HEAD.size <= len(raw):
        length, kind, time_ns, inode, offset, process, path, other, data = _HEAD.unpack_from(raw, position)
        if position + length > len(raw):
            break
        body = position + _HEAD.size
        records.append(
            Record(
                Kind(kind), time_ns, inode, offset, process,
                raw[body : body + path].decode(), raw[body + path : body + path + other].decode(),
                raw[body + path + other : body + path + other + data],
            )
        )  # fmt: skip
        position += length
    return records


@cache
def library() -> Path:
    """The recorder, compiled into the environment's `lib` where that is allowed.

    Raises:
        FileNotFoundError: there is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("cc: a C compiler is needed to record what a program writes")
    folder = Path(sys.prefix) / "lib"
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.mkdtemp(prefix="powercut-"))
    built = folder / f"libpowercut-{SOURCE.stat().st_mtime_ns}.so"
    if not built.exists():
        partial = built.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-fPIC", "-shared", "-o", partial, SOURCE, "-ldl", "-pthread"], check=True)
        partial.rename(built)
    return built


def preload(root: Path, log: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What to add to a process's environment so that its changes of the files below `root` are written in `log`."""
    loaded = [str(library()), *filter(None, [environment.get("LD_PRELOAD")])]
    return {
        "LD_PRELOAD": " ".join(loaded),
        "POWERCUT_ROOT": str(root),
        "POWERCUT_LOG": str(log),
        "POWERCUT_SWALLOW": "1",
    }


class Recorder:
    """The recorder in this process: for marks, and in a process under LD_PRELOAD to record itself."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(library()))

    def start(self, root: Path, log: Path) -> None:
        """Write down what is done below `root` (by this process only where the library was preloaded)."""
        if self._library.powercut_start(os.fsencode(root), os.fsencode(log)):
            raise OSError(f"{root} cannot be recorded in {log}")

    def stop(self) -> None:
        """Stop."""
        self._library.powercut_stop()

    def mark(self, text: str) -> None:
        """Put something that happened outside the disk into the log."""
        self._library.powercut_mark(text.encode())


@dataclass
class _File:
    safe: bytearray = field(default_factory=bytearray)
    loose: list[tuple[int, bytes | None]] = field(default_factory=list)  # offset and bytes; None: truncated to offset

    def settle(self) -> None:
        for offset, data in self.loose:
            _change(self.safe, offset, data)
        self.loose.clear()


@dataclass
class _Name:
    """A change of one folder: `name` now stands for file or folder `number`, or for nothing."""

    folder: int
    name: str
    number: int | None
    group: int  # changes of one call in one folder are kept or lost together


class Disk:
    """Follows a log; `after_cut` builds what is left if the power goes now.

    Args:
        start: the folder as it is when the recording begins, all of it safe.
        journal: names change in one order, and a sync takes along all changes of names before it (ext4).
        ignored: the sync of a path for which this is true never happened: what a forgotten fsync would do.
    """

    def __init__(self, start: Path, journal: bool = False, ignored: Callable[[str], bool] = lambda path: False) -> None:
        self.journal = journal
        self._ignored = ignored
        self._files: dict[int, _File] = {}
        self._folders: dict[int, dict[str, int]] = {}  # as they are safe
        self._now: dict[int, dict[str, int]] = {}  # as processes see them
        self._loose: list[_Name] = []
        self._of_inode: dict[int, int] = {}  # the kernel gives an inode's number again: files here have their own
        self._made = 0
        self._groups = 0
        self._root = self._load(start)

    def _load(self, path: Path) -> int:
        number = self._make(path.stat().st_ino, path.is_dir())
        if path.is_dir():
            names = {entry.name: self._load(entry) for entry in path.iterdir()}
            self._folders[number], self._now[number] = names, dict(names)
        else:
            self._files[number].safe += path.read_bytes()
        return number

    def _make(self, inode: int, folder: bool) -> int:
        self._made += 1
        self._of_inode[inode] = self._made
        if folder:
            self._folders[self._made], self._now[self._made] = {}, {}
        else:
            self._files[self._made] = _File()
        return self._made

    def follow(self, record: Record) -> None:
        """Take the next record of the log."""
        kind = record.kind
        if kind in (Kind.CREATE, Kind.MKDIR):
            number = self._make(record.inode, kind is Kind.MKDIR)
            if record.path:
                self._name((record.path, number))
            return
        number = self._of_inode.get(record.inode, 0)
        if kind is Kind.WRITE:
            self._files[number].loose.append((record.offset, record.data))
        elif kind is Kind.TRUNCATE:
            self._files[number].loose.append((record.offset, None))
        elif kind is Kind.LINK:
            self._name((record.path, number))
        elif kind in (Kind.UNLINK, Kind.RMDIR):
            self._name((record.path, None))
        elif kind is Kind.RENAME:
            if not record.path or not record.other:
                raise ValueError(f"{record}: a file came from outside the folder or left it")
            self._name((record.path, None), (record.other, number))
        elif kind is Kind.SYNC:
            if not self._ignored(record.path):
                self._sync(number)
        elif kind is Kind.SYNC_ALL:
            for file in self._files.values():
                file.settle()
            self._settle_names(lambda change: True)
        elif kind is Kind.MAP and not record.path.endswith("-shm"):
            raise ValueError(f"{record}: what is written through a mapping cannot be followed")

    def _sync(self, number: int) -> None:
        if number in self._files:
            self._files[number].settle()
        self._settle_names(lambda change: self.journal or change.folder == number)

    def _settle_names(self, safe: Callable[[_Name], bool]) -> None:
        for change in self._loose:
            if safe(change):
                _rename(self._folders, change)
        self._loose = [change for change in self._loose if not safe(change)]

    def _name(self, *changes: tuple[str, int | None]) -> None:
        self._groups += 1
        for path, number in changes:
            folder = self._root
            *above, name = path.split("/")
            for part in above:
                folder = self._now[folder][part]
            change = _Name(folder, name, number, self._groups)
            _rename(self._now, change)
            self._loose.append(change)

    def after_cut(self, folder: Path, keep: float, chance: random.Random) -> None:
        """Write what a cut leaves into a new folder.

        Args:
            folder: made here.
            keep: probability with which an un-synced sector or name is kept; 0: all of them are gone, 1: all are
                there, as after kill -9.
            chance: draws.
        """
        folders = {number: dict(names) for number, names in self._folders.items()}
        first = self._loose[0].group - 1 if self._loose else 0
        kept_until = chance.randint(first, self._groups) if keep < 1.0 else self._groups
        kept: dict[tuple[int, int], bool] = {}
        for change in self._loose:
            by_itself = kept.setdefault((change.group, change.folder), chance.random() < keep)
            in_order = keep > 0.0 and change.group <= kept_until
            if in_order if self.journal else by_itself:
                _rename(folders, change)
        self._write(self._root, folder, folders, keep, chance)

    def _write(
        self, number: int, path: Path, folders: dict[int, dict[str, int]], keep: float, chance: random.Random
    ) -> None:
        path.mkdir(parents=True)
        for name, child in folders[number].items():
            if child in self._now:
                self._write(child, path / name, folders, keep, chance)
            elif not name.endswith("-shm"):  # shared memory between processes: none of them lives
                (path / name).write_bytes(self._left_of(self._files[child], keep, chance))
                (path / name).chmod(0o600)  # modes are not recorded: a key's file has it from its first byte on

    @staticmethod
    def _left_of(file: _File, keep: float, chance: random.Random) -> bytes:
        left = bytearray(file.safe)
        for offset, data in file.loose:
            if data is None:
                if chance.random() < keep:
                    _change(left, offset, None)
                continue
            for start, piece in _sectors(offset, data):
                if chance.random() < keep:
                    _change(left, start, piece)
        return bytes(left)


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        length = SECTOR_BYTES - (offset + position) % SECTOR_BYTES
        yield offset + position, data[position : position + length]
        position += length


def _change(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _rename(folders: dict[int, dict[str, int]], change: _Name) -> None:
    names = folders.setdefault(change.folder, {})
    if change.number is None:
        names.pop(change.name, None)
    else:
        names[change.name] = change.number
