"""Changes of the disk that survive a power cut: a file replaced as a whole, removed, moved, a folder made.

A file's bytes and its name are two things for the disk. `fsync` of the file keeps the bytes; the name, old or new, is
kept by `fsync` of the folder that it stands in (open(2), fsync(2)). Each function returns when both are kept, so that
after a cut the old state is there or the new one, and never a mixture. `tests/powercut` cuts the power in between.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PARTIAL = ".partial"  # what a cut leaves of a file that was being written; the next `replace` of it overwrites it


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put a file of `content` in the place of `path`, whose folder is made where it is missing.

    Args:
        path: the file's name.
        content: all of it.
        mode: permissions of the file from its first byte on.

    Raises:
        OSError: the disk does not take it; the old file is still there.
    """
    make_folder(path.parent)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def remove(*paths: Path) -> None:
    """Remove files of one folder; those that are not there are removed already.

    Raises:
        OSError: the disk does not let them go.
    """
    for path in paths:
        path.unlink(missing_ok=True)
    if paths:
        sync_folder(paths[0].parent)


def rename(old: Path, new: Path) -> None:
    """Move a file whose bytes are on disk already to `new` in the same folder, over what is there.

    Raises:
        OSError: it is not there, or the disk does not take it.
    """
    old.replace(new)
    sync_folder(new.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        OSError: the disk does not take it.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Keep the names in a folder as they are now.

    Raises:
        OSError: the disk does not take it.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
