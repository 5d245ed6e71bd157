"""Reads the digital sensors on a thread of its own and reports levels and debounced edges to the node.

Lost edges (the kernel's buffer ran over) are made good by reading the levels, and told: `watching_since_ns` begins
anew. A sensor that chatters is unknown and not listened to until it is quiet.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

from myrvm_core.backoff import Backoff

from myrvm_hardware.chatter import Chatter
from myrvm_hardware.debounce import Debounce
from myrvm_hardware.device_thread import DeviceThread
from myrvm_hardware.drivers import Edge, Role, SensorDriver
from myrvm_hardware.kernel_clock import CLOCK, KernelClock
from myrvm_hardware.settings import SensorSettings, hold_s

QUEUE = 1000  # reports; an executor that is so far behind is stuck, and the sequence numbers show the loss
LONGEST_WAIT_S = 0.2  # so that `stop` is answered soon
PASSING = frozenset({Role.ENTRY, Role.DROP})  # an edge of these that nobody sees may be an item


@dataclass(frozen=True)
class SensorEdge:
    """An edge as it is reported: `stamp_ns` is ROS time, ns since the epoch."""

    sequence: int
    role: Role
    active: bool
    stamp_ns: int


@dataclass(frozen=True)
class Report:
    """What was read: `levels` as they are now (empty: unknown, as is a role that is missing), the `edges` before.

    No edge was missed since `watching_since_ns` (ns since the epoch; 0: not watching).
    """

    stamp_ns: int
    watching_since_ns: int = 0
    levels: dict[Role, bool] = field(default_factory=dict)
    edges: tuple[SensorEdge, ...] = ()


class SensorReader:
    """Owns the driver's thread.

    Args:
        next_sequence: gives the next number of an edge; called on the thread.
        hand_over: called on the thread when reports wait to be taken, never twice for one `take`; returns at once.
    """

    def __init__(
        self,
        driver: SensorDriver,
        settings: SensorSettings,
        next_sequence: Callable[[], int],
        hand_over: Callable[[], None],
        log: Any,
        clock: KernelClock = CLOCK,
    ) -> None:
        self._driver, self._next_sequence, self._hand_over, self._log = driver, next_sequence, hand_over, log
        self._clock = clock
        self._report_period_s = settings.report_period_s
        self._hold_s = hold_s(settings.debounce)
        self._debounce, self._chatter = Debounce(), Chatter(settings.chatter_hz)
        self._reports: deque[Report] = deque(maxlen=QUEUE)
        self._lock = threading.Lock()
        self._watching_since_ns = 0
        self._jumps = 0
        self.lost_edges = 0
        self.reported_s = time.monotonic()
        backoff = Backoff(settings.reopen_first_s, settings.reopen_longest_s)
        self.thread = DeviceThread("sensors", driver, self._work, self._lost, backoff, log)

    @property
    def chattering(self) -> list[str]:
        """Names of the sensors that chatter."""
        return [role.name.lower() for role in sorted(self._chatter.unknown)]

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
        self._watch_anew()
        self._chatter.restart()
        levels = self._driver.levels()
        hold_s = {role: seconds for role, seconds in self._hold_s.items() if role not in self._driver.debounced}
        self._report(self._debounce.restart(levels, hold_s, time.monotonic_ns()))
        self.thread.succeeded()
        due_s = time.monotonic() + self._report_period_s
        while not self.thread.stopping.is_set():
            edges = self._read(due_s - time.monotonic())
            now_s = time.monotonic()
            if now_s >= due_s:
                due_s = max(due_s + self._report_period_s, now_s)
                self._report(edges)
            elif edges:
                self._report(edges)

    def _read(self, longest_s: float) -> list[Edge]:
        """Wait for edges, at most `longest_s`; the confirmed ones."""
        settled_s = self._debounce.wait_s(time.monotonic_ns())
        wait_s = min(longest_s, LONGEST_WAIT_S, LONGEST_WAIT_S if settled_s is None else settled_s)
        raw, lost = self._driver.read_edges(max(0.0, wait_s))
        confirmed: list[Edge] = []
        unknown = self._chatter.unknown
        for edge in raw:
            if self._chatter.feed(edge):
                self._mute(edge)
                unknown = self._chatter.unknown
            elif edge.role not in unknown:
                confirmed += self._debounce.feed(edge)
        if lost:
            self.lost_edges += lost
            self._log.warning("edges lost, levels read instead", edges=lost)
            confirmed += self._reconcile(self._debounce.levels.keys() - unknown)
        tried, passed = self._chatter.look(time.monotonic_ns())
        if tried:
            self._driver.listen(self._debounce.levels.keys() - self._chatter.muted)
        for role in passed:
            self._log.info("sensor is quiet again", sensor=role.name.lower())
            confirmed += self._reconcile({role})
        if self._clock.jumps != self._jumps:
            self._watch_anew()
        return confirmed + self._debounce.settle(time.monotonic_ns())

    def _mute(self, edge: Edge) -> None:
        self._debounce.drop(edge.role)
        self._driver.listen(self._debounce.levels.keys() - self._chatter.muted)
        self._log.warning("sensor chatters: its level is unknown", sensor=edge.role.name.lower())

    def _reconcile(self, roles: Set[Role]) -> list[Edge]:
        self._watch_anew()
        levels = self._driver.levels()
        return self._debounce.reconcile({role: levels[role] for role in roles}, time.monotonic_ns())

    def _watch_anew(self) -> None:
        self._jumps = self._clock.jumps
        self._watching_since_ns = self._clock.since_epoch_ns(time.monotonic_ns())

    def _report(self, edges: list[Edge]) -> None:
        unknown = self._chatter.unknown
        if unknown & PASSING:
            self._watch_anew()
        told = tuple(
            SensorEdge(self._next_sequence(), edge.role, edge.active, self._clock.since_epoch_ns(edge.monotonic_ns))
            for edge in edges
        )
        levels = {role: active for role, active in self._debounce.levels.items() if role not in unknown}
        self._hand(Report(self._clock.since_epoch_ns(time.monotonic_ns()), self._watching_since_ns, levels, told))

    def _lost(self, _problem: str) -> None:
        self._hand(Report(self._clock.since_epoch_ns(time.monotonic_ns())))

    def _hand(self, report: Report) -> None:
        self.reported_s = time.monotonic()
        with self._lock:
            waiting = bool(self._reports)
            self._reports.append(report)
        if not waiting:
            self._hand_over()
