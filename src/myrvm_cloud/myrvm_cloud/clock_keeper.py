"""Keeps the floor of the machine's clock on disk, and corrects what was stamped before the clock was set."""

from __future__ import annotations

from typing import Any

from myrvm_core.clock import MachineClock
from myrvm_core.errors import StorageError

from myrvm_cloud.buffer import DepositBuffer


class ClockKeeper:
    """The one writer of the clock's file; the buffer's process, since that is the first one up.

    Args:
        clock: of this machine; it is later than what the buffer's deposits bear.
        buffer: whose deposits are corrected.
        log: the node's logger.
    """

    def __init__(self, clock: MachineClock, buffer: DepositBuffer, log: Any) -> None:
        self._clock, self._buffer, self._log = clock, buffer, log
        self._server_epoch_ns: int | None = None
        if clock.problem:
            log.error("the clock's floor is lost", error=clock.problem)
        clock.raise_to(buffer.newest_accepted_at_ns())
        self.save()

    def save(self, _now_ns: int = 0) -> int:
        """Put the present on disk; changes no deposit."""
        try:
            self._clock.save()
        except StorageError as error:
            self._log.error("the clock's floor is not saved", error=str(error))
        return 0

    def hear_server(self, offset_s: float) -> bool:
        """The server's clock is so far ahead of the kernel's: believed while nobody has set the kernel's.

        True at the first time: the present should be put on disk, for a start without the server.
        """
        self._server_epoch_ns = self._clock.epoch_ns(round(offset_s * 1e9))
        return self._clock.hear_server(round(offset_s * 1e9))

    def correct(self, _now_ns: int = 0) -> int:
        """Correct what can be corrected by now; returns how many deposits."""
        epoch_ns, now = self._clock.epoch_ns(), self._clock.now()
        if epoch_ns is None:
            epoch_ns = self._server_epoch_ns
        return 0 if epoch_ns is None else self._buffer.correct(now.boot_id, epoch_ns, now.boottime_ns)
