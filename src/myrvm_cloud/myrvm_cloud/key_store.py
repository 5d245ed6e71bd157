"""Whose commands are obeyed: the key ring of the installation, until a signed command has put another in its place.

The ring that came by `rotate_keys` lies in the data folder, signed by the machine's own key; one that is damaged does
not count, and the installation's ring stands again until the keys are rotated anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from myrvm_core.errors import RvmError, SettingsError, SignatureError, StorageError
from myrvm_core.settings import Settings
from myrvm_core.signing import KeyRing, PublicKey, SigningKey, verify
from pydantic import ValidationError

from myrvm_cloud.command import PURPOSE, SIGNERS
from myrvm_core import durable, paths

KIND = "rvm-key-ring"
FILE = "commands/keys.jws"  # in the data folder


class KeyStore:
    """Where the ring is kept.

    Args:
        installed: the installation's file; need not be there.
        rotated: the file of the ring that came by command.
        key: the machine's own.
    """

    def __init__(self, installed: Path, rotated: Path, key: SigningKey) -> None:
        self._installed, self._rotated, self._key = installed, rotated, key
        self.problem = ""
        self.ring = self._load()

    def rotate(self, ring: KeyRing, epoch_s: float) -> None:
        """Trust `ring` from now on, and after a restart.

        Raises:
            RvmError: fewer than two of its keys may sign commands now: no other could ever follow.
            StorageError: the disk does not take it.
        """
        signers = [key for key in ring.keys if PURPOSE in key.purposes and key.valid_at(epoch_s)]
        if len(signers) < SIGNERS:
            raise RvmError(f"{len(signers)} of the keys may sign commands now; allowed: {SIGNERS} or more")
        document = self._key.sign(ring.model_dump(mode="json"), KIND)
        try:
            durable.replace(self._rotated, document.encode(), mode=0o600)
        except OSError as error:
            raise StorageError(f"{self._rotated} cannot be written: {error}") from error
        self.ring, self.problem = ring, ""

    def _load(self) -> KeyRing:
        try:
            return self._read_rotated() if self._rotated.exists() else self._read_installed()
        except (OSError, SignatureError, ValidationError, UnicodeDecodeError) as error:
            self.problem = f"{self._rotated} is damaged, {self._installed.name} counts: {str(error).splitlines()[0]}"
            return self._read_installed()

    def _read_rotated(self) -> KeyRing:
        own = PublicKey(key_id=self._key.key_id, public=self._key.public, purposes=frozenset({KIND}))
        document = self._rotated.read_text(encoding="ascii")
        claims: dict[str, Any] = verify(document, KeyRing(keys=(own,)), KIND, KIND, 0.0).claims
        return KeyRing.model_validate(claims)

    def _read_installed(self) -> KeyRing:
        try:
            return KeyRing.load(self._installed) if self._installed.exists() else KeyRing()
        except SettingsError as error:
            self.problem = f"no command is obeyed: {error}"
            return KeyRing()


def check(nodes: Mapping[str, Settings]) -> None:
    """For `rvm check`: the ring of the installation.

    Raises:
        SettingsError: something in it is not allowed.
    """
    from myrvm_cloud.settings import CloudBridgeSettings  # it has our settings as a group

    bridge = nodes["cloud_bridge"]
    assert isinstance(bridge, CloudBridgeSettings)
    file = paths.resolve(bridge.commands.keys_file)
    if file.exists():
        KeyRing.load(file)
