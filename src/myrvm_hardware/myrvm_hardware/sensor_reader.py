"""Reads the sensors on a thread of its own and reports levels, weights and debounced edges to the node."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from myrvm_core.backoff import Backoff
from myrvm_core.errors import SettingsError

from myrvm_hardware.debounce import Debounce
from myrvm_hardware.device_thread import DeviceThread
from myrvm_hardware.drivers import DIGITAL, Edge, Role, SensorDriver
from myrvm_hardware.settings import SensorSettings

DEBOUNCED = tuple(role for role in DIGITAL if role <= Role.EMERGENCY)
QUEUE = 1000  # reports; an executor that is so far behind is stuck, and the sequence numbers show the loss
LONGEST_WAIT_S = 0.2  # so that `stop` is answered soon


@dataclass(frozen=True)
class Report:
    """What was read: `levels` and `values` as they are now (empty: unknown), `edges` with their numbers.

    No edge was missed since `watching_since_ns` (ns since the epoch; 0: not watching).
    """

    stamp_ns: int
    watching_since_ns: int = 0
    levels: dict[Role, bool] = field(default_factory=dict)
    values: dict[Role, float] = field(default_factory=dict)
    edges: tuple[tuple[int, Edge], ...] = ()


class SensorReader:
    """Owns the driver's thread.

    Args:
        hand_over: called on the thread when reports wait to be taken, never twice for one `take`; returns at once.
    """

    def __init__(self, driver: SensorDriver, settings: SensorSettings, hand_over: Callable[[], None], log: Any) -> None:
        self._driver, self._hand_over = driver, hand_over
        self._measure_period_s = settings.measure_period_s
        self._debounce = Debounce(hold_times_s(settings.debounce_s))
        self._reports: deque[Report] = deque(maxlen=QUEUE)
        self._lock = threading.Lock()
        self._sequence = 0
        self._watching_since_ns = 0
        self._values: dict[Role, float] = {}
        self.reported_s = time.monotonic()
        backoff = Backoff(settings.reopen_first_s, settings.reopen_longest_s)
        self.thread = DeviceThread("sensors", driver, self._work, self._lost, backoff, log)

    def start(self) -> None:
        """Begin."""
        self._reports.clear()
        self.reported_s = time.monotonic()
        self.thread.start()

    def take(self) -> list[Report]:
        """All reports since the last call, oldest first."""
        with self._lock:
            reports = list(self._reports)
            self._reports.clear()
        return reports

    def _work(self) -> None:
        self._watching_since_ns = time.time_ns()
        self._report(self._debounce.restart(self._driver.levels(), time.time_ns()), measured=True)
        self.thread.succeeded()
        due_s = time.monotonic() + self._measure_period_s
        while not self.thread.stopping.is_set():
            until_due_s = due_s - time.monotonic()
            until_settled_s = self._debounce.wait_s(time.time_ns())
            wait_s = min(until_due_s, LONGEST_WAIT_S, LONGEST_WAIT_S if until_settled_s is None else until_settled_s)
            edges = [
                confirmed
                for edge in self._driver.read_edges(max(0.0, wait_s))
                for confirmed in self._debounce.feed(edge)
            ]
            edges += self._debounce.settle(time.time_ns())
            now_s = time.monotonic()
            measured = now_s >= due_s
            if measured:
                due_s = max(due_s + self._measure_period_s, now_s)
            if edges or measured:
                self._report(edges, measured)

    def _report(self, edges: list[Edge], measured: bool) -> None:
        if measured:
            self._values = self._driver.measure()
        numbered = tuple(enumerate(edges, self._sequence + 1))
        self._sequence += len(edges)
        self._hand(Report(time.time_ns(), self._watching_since_ns, dict(self._debounce.levels), self._values, numbered))

    def _lost(self, _problem: str) -> None:
        self._hand(Report(time.time_ns()))

    def _hand(self, report: Report) -> None:
        self.reported_s = time.monotonic()
        with self._lock:
            waiting = bool(self._reports)
            self._reports.append(report)
        if not waiting:
            self._hand_over()


def hold_times_s(debounce_s: list[float]) -> dict[Role, float]:
    """One value for every digital role, or one for each in the order of their numbers.

    Raises:
        SettingsError: neither, or a value that is no time.
    """
    bad = [value for value in debounce_s if not 0.0 <= value <= 1.0]
    if len(debounce_s) not in (1, len(DEBOUNCED)) or bad:
        raise SettingsError(
            f"sensor.debounce_s = {debounce_s} is not allowed: 1 or {len(DEBOUNCED)} values, each 0 .. 1 s"
        )
    times = debounce_s if len(debounce_s) > 1 else debounce_s * len(DEBOUNCED)
    return dict(zip(DEBOUNCED, times, strict=True))
