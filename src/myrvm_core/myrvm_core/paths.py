"""Where the machine's files are: the installation (`config`, `models`, `launch`) and its data."""

from __future__ import annotations

import os
from pathlib import Path

from myrvm_core.errors import SettingsError


def home() -> Path:
    """The installation's root: `MYRVM_HOME`, or the nearest folder above this file that has `config/graph.yaml`.

    Raises:
        SettingsError: there is none.
    """
    if named := os.environ.get("MYRVM_HOME"):
        return Path(named)
    for folder in Path(__file__).resolve().parents:
        if (folder / "config" / "graph.yaml").is_file():
            return folder
    raise SettingsError("MYRVM_HOME is not set and no folder above the code has config/graph.yaml")


def data() -> Path:
    """Where the machine writes (buffer, logs): `MYRVM_DATA`, by default `var` in the installation."""
    return Path(os.environ.get("MYRVM_DATA") or home() / "var")


def resolve(name: str) -> Path:
    """A path from the configuration: absolute as it is, relative to the installation otherwise."""
    path = Path(name).expanduser()
    return path if path.is_absolute() else home() / path
