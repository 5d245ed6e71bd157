"""Who this machine is towards phones, what time it may tell them, and whose tokens it believes without the server."""

from __future__ import annotations

from collections.abc import Callable

from myrvm_core.claims import machine_key_file
from myrvm_core.clock import MachineClock
from myrvm_core.environment import identity
from myrvm_core.errors import SettingsError, SignatureError, StorageError
from myrvm_core.session_start import account_of
from myrvm_core.signing import KeyRing, SigningKey
from myrvm_interfaces.msg import CloudStatus
from myrvm_ros.managed_node import ManagedNode

from myrvm_core import paths
from myrvm_deposit.settings import DepositSettings
from myrvm_ros import qos


class MachineIdentity:
    """`name` is its HARDWARE_ID; `key` signs its vouchers and offers, None where the file cannot be used."""

    def __init__(self, node: ManagedNode[DepositSettings], clock: MachineClock) -> None:
        self._node, self._log = node, node.log
        self._clock = clock
        self._keys_file = paths.resolve(node.settings.keys_file)
        self.name = identity(node.environment).hardware_id
        self.key: SigningKey | None = None
        try:
            self.key = SigningKey.load_or_make(machine_key_file(paths.data()))
        except StorageError as error:  # deposits are taken without it
            self._log.error("no vouchers and no offers", error=str(error))

    def begin(self, told: Callable[[], object]) -> None:
        """Hear the server's time from `cloud/status`; `told` is called when it comes for the first time."""

        def hear(message: CloudStatus) -> None:
            answered = message.state == CloudStatus.ONLINE and message.round_trip_s > 0  # else no heartbeat was yet
            if answered and self._clock.hear_server(round(message.clock_offset_s * 1e9)):
                told()

        self._node.subscription(CloudStatus, "cloud/status", hear, qos.STATE)

    def known_s(self) -> float | None:
        """The time of day, s since the epoch, by the server or a clock that was set; None while nobody has told it."""
        return _seconds(self._clock.known_ns())

    def dated_s(self) -> float | None:
        """The same; while nobody has told it, counted on from when it was known. None where it never was."""
        return _seconds(self._clock.dated_ns())

    def account_of(self, token: str) -> str:
        """Whose token this is, without asking the server.

        Raises:
            SignatureError: it is not good here, or no keys are trusted.
        """
        try:
            ring = KeyRing.load(self._keys_file) if self._keys_file.exists() else KeyRing()
        except SettingsError as error:
            raise SignatureError(f"no keys to check it with: {error}") from error
        return account_of(token, ring, self.name, self.dated_s() or self._clock.now().time_ns / 1e9)


def _seconds(time_ns: int | None) -> float | None:
    return None if time_ns is None else time_ns / 1e9
