"""One value of the kernel's file trees (`/sys`, `/proc`), or of files that stand in for them."""

from __future__ import annotations

from pathlib import Path


def text(path: Path) -> str:
    """What the file says, without the line's end; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """The whole number in the file; None where there is none."""
    try:
        return int(text(path))
    except ValueError:
        return None


def hexadecimal(word: str) -> int:
    """`0x1f` or `1f`; 0 where it is no number."""
    try:
        return int(word, 16)
    except ValueError:
        return 0
