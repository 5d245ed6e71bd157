"""Watches the interlocks on a thread of its own and switches the motors off at the edge itself.

Nothing that the rest of the process does can hold it up: it takes no lock and asks nobody before the lines are off.
Only then it tells. It reads the levels each `REREAD_S` and after lost edges, so that an edge is never the only witness.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from myrvm_core.errors import DeviceError

from myrvm_hardware.drivers import Edge, GateDriver, Role
from myrvm_hardware.motor_guard import real_time

PRIORITY = 10
REREAD_S = 0.1
CHATTER_PAUSE_S = 0.002  # after an edge that has switched off: a wire that chatters does not take the CPU


class InterlockWatch:
    """The thread, between `start` and `stop`, while the driver is open.

    Args:
        told: called on the thread with edges, oldest first, and the levels where they were read (else None).
        failed: called once on the thread, why nobody watches any more.
    """

    def __init__(
        self,
        driver: GateDriver,
        told: Callable[[Sequence[Edge], Mapping[Role, bool] | None], None],
        failed: Callable[[str], None],
        log: Any,
    ) -> None:
        self._driver, self._told, self._failed, self._log = driver, told, failed, log
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.real_time = False
        self.lost_edges = 0

    def start(self) -> None:
        """Begin."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="interlocks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End and wait for the end."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        self.real_time = real_time(PRIORITY)
        try:
            self._watch()
        except DeviceError as error:
            self._fail(str(error))
        except Exception as error:
            self._log.exception("interlocks: unexpected")
            self._fail(f"{type(error).__name__}: {error}")

    def _watch(self) -> None:
        due_s = 0.0
        while not self._stopping.is_set():
            edges, lost = self._driver.read_edges(max(0.0, min(REREAD_S, due_s - time.monotonic())))
            active = any(edge.active for edge in edges)
            if active:
                self._driver.off()
            levels = None
            if lost or time.monotonic() >= due_s:
                due_s = time.monotonic() + REREAD_S
                levels = self._driver.levels()
                if any(levels.values()):
                    self._driver.off()
            if lost:
                self.lost_edges += lost
                self._log.warning("interlock edges lost, levels read instead", edges=lost)
            if edges or levels is not None:
                self._told(edges, levels)
            if active:
                self._stopping.wait(CHATTER_PAUSE_S)

    def _fail(self, why: str) -> None:
        with contextlib.suppress(DeviceError):
            self._driver.off()
        self._failed(why)
