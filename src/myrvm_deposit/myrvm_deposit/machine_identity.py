"""Who this machine is towards phones, and whose tokens it believes without the server."""

from __future__ import annotations

from typing import Any

from myrvm_core.claims import machine_key_file
from myrvm_core.clock import MachineClock
from myrvm_core.environment import identity
from myrvm_core.errors import SettingsError, SignatureError, StorageError
from myrvm_core.session_start import account_of
from myrvm_core.signing import KeyRing, SigningKey
from myrvm_ros.managed_node import ManagedNode

from myrvm_core import paths
from myrvm_deposit.settings import DepositSettings


class MachineIdentity:
    """`name` is its HARDWARE_ID; `key` signs its vouchers and offers, None where the file cannot be used."""

    def __init__(self, node: ManagedNode[DepositSettings], clock: MachineClock) -> None:
        self._log: Any = node.log
        self._clock = clock
        self._keys_file = paths.resolve(node.settings.keys_file)
        self.name = identity(node.environment).hardware_id
        self.key: SigningKey | None = None
        try:
            self.key = SigningKey.load_or_make(machine_key_file(paths.data()))
        except StorageError as error:  # deposits are taken without it
            self._log.error("no vouchers and no offers", error=str(error))

    def epoch_s(self) -> float:
        """The machine's time of day, s since the epoch."""
        return self._clock.now().time_ns / 1e9

    def account_of(self, token: str) -> str:
        """Whose token this is, without asking the server.

        Raises:
            SignatureError: it is not good here, or no keys are trusted.
        """
        try:
            ring = KeyRing.load(self._keys_file) if self._keys_file.exists() else KeyRing()
        except SettingsError as error:
            raise SignatureError(f"no keys to check it with: {error}") from error
        return account_of(token, ring, self.name, self.epoch_s())
