"""The machine's key: where it comes from, and how it is replaced while the machine runs. It shows nowhere.

The first of these that holds one counts: the file that `RVM_API_KEY_FILE` names; the systemd credential `rvm_api_key`
(`LoadCredential=`, in `$CREDENTIALS_DIRECTORY`); `RVM_API_KEY` of the process environment or of `config/.env`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from myrvm_core.errors import SettingsError
from pydantic import SecretStr

from myrvm_core import environment

FILE_VARIABLE = "RVM_API_KEY_FILE"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
CREDENTIAL = "rvm_api_key"
KEY_CHARACTERS = 512

Stamp = tuple[int, int, int]


class ApiKey:
    """Reads the key, and reads it again when its file has changed.

    Args:
        variables: the process environment over `config/.env`.
        env_file: read again for `RVM_API_KEY`; None: wherever `.env` is.
        log: of the node.

    Raises:
        SettingsError: the key cannot be read, or cannot be sent in a header.
    """

    def __init__(self, variables: Mapping[str, str], log: Any, env_file: Path | None = None) -> None:
        self._log = log
        self._file, self._parse = _source(variables, env_file or environment.file())
        self._stamp = _stamp(self._file)
        self._key = self._parse()

    def current(self) -> SecretStr:
        """The key as its file holds it now; the one before, where the file cannot be used."""
        stamp = _stamp(self._file)
        if stamp != self._stamp:
            self._stamp = stamp
            self.read_again()
        return self._key

    def read_again(self) -> bool:
        """Read the file whether it seems to have changed or not; True where the key is another one."""
        try:
            key = self._parse()
        except SettingsError as error:
            self._log.error("the machine's key is not replaced", error=str(error))
            return False
        if key == self._key:
            return False
        self._key = key
        self._log.info("the machine's key was replaced", file=str(self._file))
        return True


def _source(variables: Mapping[str, str], env_file: Path) -> tuple[Path, Callable[[], SecretStr]]:
    """Where the key is, and what reads it."""
    if named := variables.get(FILE_VARIABLE):
        file = Path(named)
        return file, lambda: _checked(_read(file, FILE_VARIABLE), str(file))
    if folder := variables.get(CREDENTIALS_VARIABLE):
        file = Path(folder) / CREDENTIAL
        if file.is_file():
            return file, lambda: _checked(_read(file, CREDENTIAL), str(file))
    return env_file, lambda: _checked(_of_environment(variables, env_file), "RVM_API_KEY")


def _of_environment(variables: Mapping[str, str], env_file: Path) -> str:
    """The process environment does not change, `.env` may."""
    if env_file.is_file():
        return environment.environment(env_file).get("RVM_API_KEY") or ""
    return variables.get("RVM_API_KEY") or ""


def _read(file: Path, name: str) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(KEY_CHARACTERS + 100)
        return data.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise SettingsError(f"{name} = {str(file)!r} cannot be read: {reason}") from None


def _checked(key: str, where: str) -> SecretStr:
    if not re.fullmatch(rf"[\x21-\x7e]{{0,{KEY_CHARACTERS}}}", key):
        allowed = f"at most {KEY_CHARACTERS} characters of printable ASCII without a space"
        raise SettingsError(f"{where} holds no key that fits a header; allowed: {allowed}")
    return SecretStr(key)


def _stamp(file: Path) -> Stamp | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
