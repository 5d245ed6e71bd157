"""The process environment and `.env`: identity and secrets, and overrides of parameters.

Precedence, highest first: `ros2 param set` before `configure`, the process environment, `config/.env`, `-p` and
`config/rvm.yaml`, the default in the code. An empty value counts as not given.
"""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from myrvm_core import paths
from myrvm_core.errors import SettingsError
from myrvm_core.settings import validate


class Identity(BaseModel):
    """Who this machine is, and the key that proves it. The key shows as `**********` wherever it is printed."""

    model_config = ConfigDict(frozen=True)

    hardware_id: str = Field(default="desk", pattern=r"^[A-Za-z0-9._-]{1,100}$", description="HARDWARE_ID")
    api_key: SecretStr = Field(default=SecretStr(""), max_length=512, description="RVM_API_KEY")


def file() -> Path:
    """Where `.env` is (it need not be there): `MYRVM_ENV_FILE`, by default `config/.env`."""
    return Path(os.environ.get("MYRVM_ENV_FILE") or paths.home() / "config" / ".env")


def environment(source: Path | None = None) -> dict[str, str]:
    """Variables of `config/.env` (or `source`) under those of the process.

    Raises:
        SettingsError: the file is there and cannot be read.
    """
    source = source or file()
    try:
        from_file = dotenv_values(source) if source.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source} cannot be read: {error}") from error
    return {name: value for name, value in from_file.items() if value is not None} | dict(os.environ)


def identity(variables: dict[str, str] | None = None) -> Identity:
    """This machine's identity from `HARDWARE_ID` and `RVM_API_KEY`.

    Raises:
        SettingsError: a value is not allowed (the key's value is not shown).
    """
    variables = environment() if variables is None else variables
    named = {"hardware_id": variables.get("HARDWARE_ID"), "api_key": variables.get("RVM_API_KEY")}
    if named["api_key"] and len(named["api_key"]) > 512:
        raise SettingsError(f"RVM_API_KEY has {len(named['api_key'])} characters, allowed: 0 .. 512")
    return validate(Identity, {name: value for name, value in named.items() if value is not None}, "environment")
