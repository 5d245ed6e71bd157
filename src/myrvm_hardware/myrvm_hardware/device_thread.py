"""A thread that keeps one device open: opens it, works with it, and opens it again with backoff when it fails.

Camera, sensors and gate all live on one of these; what differs is the `work`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from myrvm_core.backoff import Backoff
from myrvm_core.errors import DeviceError


class Device(Protocol):
    """What every driver has."""

    def open(self) -> None:
        """Open; raises DeviceError."""

    def close(self) -> None:
        """Close; harmless when not open."""


class DeviceThread:
    """Owns the thread between `start` and `stop`, which joins it.

    Args:
        name: of the thread and in the log, such as `camera`.
        device: opened and closed on the thread only.
        work: called with the device open; returns when `stopping` is set, raises DeviceError when the device fails.
        failed: told why there is no device, one line, on the thread.
        backoff: between two tries; the waits start over once `work` has called `succeeded`.
        log: the node's logger.
    """

    def __init__(
        self,
        name: str,
        device: Device,
        work: Callable[[], None],
        failed: Callable[[str], None],
        backoff: Backoff,
        log: Any,
    ) -> None:
        self.stopping = threading.Event()
        self.opened = 0
        self.problem = "not opened yet"
        self._name, self._device, self._work, self._failed = name, device, work, failed
        self._backoff, self._log = backoff, log
        self._failures = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, also again after `stop`.

        Raises:
            DeviceError: the thread of the last time is still stuck in the driver.
        """
        if self._thread is not None and self._thread.is_alive():
            raise DeviceError(f"{self._name}: the driver has not returned since it was stopped")
        self.stopping.clear()
        self.problem, self._failures = "not opened yet", 0
        self._thread = threading.Thread(target=self._run, name=f"{self._name} device", daemon=True)
        self._thread.start()

    def stop(self, limit_s: float = 5.0) -> None:
        """Ask the thread to end and wait for it, at most `limit_s` seconds."""
        self.stopping.set()
        if self._thread is None:
            return
        self._thread.join(limit_s)
        if self._thread.is_alive():
            self._log.error("device does not let go of its thread", device=self._name, waited_s=limit_s)
        else:
            self._thread = None

    def succeeded(self) -> None:
        """The device works: `work` says so whenever it has proof."""
        if self.problem or self._failures:
            self._log.info("device works", device=self._name, failures=self._failures)
            self.problem, self._failures = "", 0

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._device.open()
                self.opened += 1
                self._work()
            except DeviceError as error:
                self._fail(str(error))
            except Exception as error:  # a defect of a driver must not end the thread that could recover from it
                self._log.exception("driver failed unexpectedly", device=self._name)
                self._fail(f"{type(error).__name__}: {error}")
            finally:
                self._close()
            self.stopping.wait(self._backoff.delay_s(max(0, self._failures - 1)))

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            self._log.error("device failed", device=self._name, error=problem)
        self.problem = problem
        self._failures += 1
        self._failed(problem)

    def _close(self) -> None:
        try:
            self._device.close()
        except DeviceError as error:
            self._log.warning("device not closed cleanly", device=self._name, error=str(error))
