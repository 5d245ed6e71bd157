"""Pictures kept as evidence: whole on the disk, within a quota, the oldest go first; encrypted where there is a key.

`RVM_EVIDENCE_KEY_FILE` names a file of 32 bytes, readable by its owner only. With it a picture is `NAME.jpg.aes`: a
nonce of 12 bytes, then AES-256-GCM (NIST SP 800-38D) of the JPEG, its name as associated data, so that no picture
passes for another one's. Without it a picture is `NAME.jpg`. Those of before stay readable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from myrvm_core import durable
from myrvm_core.errors import SettingsError, StorageError

KEY_VARIABLE = "RVM_EVIDENCE_KEY_FILE"
KEY_BYTES, NONCE_BYTES = 32, 12
PLAIN, SEALED = ".jpg", ".jpg.aes"


class Evidence:
    """Pictures in one folder; one thread uses it at a time. The key does not show.

    Args:
        folder: made with the first picture.
        limit_bytes: for all of them; the newest is kept whatever its size.
        key: 32 bytes; None: pictures are not encrypted.
    """

    def __init__(self, folder: Path, limit_bytes: int, key: bytes | None = None) -> None:
        self.folder, self._limit_bytes = folder, limit_bytes
        self._cipher = AESGCM(key) if key is not None else None

    def keep(self, name: str, jpeg: bytes) -> None:
        """Put a picture on disk, over one of that name; others go where there are too many.

        Raises:
            StorageError: the disk does not take it.
        """
        try:
            if self._cipher is None:
                durable.replace(self.folder / f"{name}{PLAIN}", jpeg, mode=0o600)
            else:
                nonce = os.urandom(NONCE_BYTES)
                sealed = nonce + self._cipher.encrypt(nonce, jpeg, name.encode())
                durable.replace(self.folder / f"{name}{SEALED}", sealed, mode=0o600)
            self._prune()
        except OSError as error:
            raise StorageError(f"picture {name} cannot be kept in {self.folder}: {error}") from error

    def find(self, name: str) -> bytes | None:
        """The JPEG of that name, None where there is none.

        Raises:
            StorageError: it cannot be read, there is no key for it, or it is not what was written.
        """
        plain, sealed = self.folder / f"{name}{PLAIN}", self.folder / f"{name}{SEALED}"
        try:
            if plain.exists():
                return plain.read_bytes()
            if not sealed.exists():
                return None
            content = sealed.read_bytes()
        except OSError as error:
            raise StorageError(f"picture {name} cannot be read: {error}") from error
        if self._cipher is None:
            raise StorageError(f"{sealed} is encrypted; {KEY_VARIABLE} names no key")
        try:
            return self._cipher.decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            raise StorageError(f"{sealed} was changed, or encrypted with another key") from None

    def names(self) -> list[str]:
        """All there is, oldest first."""
        return [path.name.partition(".")[0] for path in self._files()]

    def kept(self) -> list[tuple[str, float]]:
        """All there is, oldest first: name, and when it was put there, s since the epoch.

        Raises:
            OSError: the folder cannot be read.
        """
        found: list[tuple[str, float]] = []
        for path in self._files():
            with suppress(FileNotFoundError):  # forgotten meanwhile
                found.append((path.name.partition(".")[0], path.stat().st_mtime))
        return found

    def forget(self, name: str) -> None:
        """Remove a picture; one that is not there is removed already."""
        for suffix in (PLAIN, SEALED):
            (self.folder / f"{name}{suffix}").unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        found = [path for suffix in (PLAIN, SEALED) for path in self.folder.glob(f"*{suffix}")]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def _prune(self) -> None:
        files = self._files()
        excess = sum(path.stat().st_size for path in files) - self._limit_bytes
        for path in files[:-1]:
            if excess <= 0:
                break
            excess -= path.stat().st_size
            path.unlink()


def evidence_key(variables: Mapping[str, str]) -> bytes | None:
    """The key that the environment names, None where it names none.

    Raises:
        SettingsError: the file cannot be read, is open to others, or holds no key.
    """
    name = variables.get(KEY_VARIABLE, "")
    if not name:
        return None
    file = Path(name)
    try:
        mode, key = file.stat().st_mode & 0o777, file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{KEY_VARIABLE} = {name} cannot be read: {error}") from error
    if mode & 0o077:
        raise SettingsError(f"{KEY_VARIABLE} = {name} has mode {mode:o}; allowed: 600 or 400")
    if len(key) != KEY_BYTES:
        raise SettingsError(f"{KEY_VARIABLE} = {name} holds {len(key)} bytes; allowed: {KEY_BYTES}")
    return key
