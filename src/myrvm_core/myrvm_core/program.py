"""Runs a command that a parameter of this machine names: words, no shell, with a limit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from myrvm_core.errors import DeviceError


def run(words: Sequence[str], folder: Path, limit_s: float = 30.0) -> None:
    """Run a command in a folder.

    Raises:
        DeviceError: it cannot be run, fails, or does not end within `limit_s` seconds.
    """
    shown = " ".join(words)
    try:
        done = subprocess.run(
            words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=limit_s, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{shown}: {error}") from error
    if done.returncode:
        raise DeviceError(f"{shown}: exit {done.returncode}: {' '.join(done.stderr.split())[-300:]}")
