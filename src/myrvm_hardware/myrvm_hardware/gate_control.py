"""Runs the gates on a thread of its own: looks at the end switches, asks `MotorSafety`, switches the motors.

The thread sleeps until something comes in and looks each few milliseconds only while a gate moves. Every way out
switches the motors off. What stops (`command` STOP, an interlock) takes effect on the caller's thread, without waiting
for ours. The driver's guard process, if it has one, watches this thread. Only one gate moves or is open at a time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from myrvm_core.backoff import Backoff
from myrvm_core.errors import DeviceError

from myrvm_hardware.device_thread import DeviceThread
from myrvm_hardware.drivers import BELT, Direction, Edge, EndSwitch, GateDriver, Role
from myrvm_hardware.gate import Gate, Refusal, Snapshot, Verb
from myrvm_hardware.interlock_watch import InterlockWatch
from myrvm_hardware.motor_guard import real_time
from myrvm_hardware.motor_safety import Interlocks, Limits, MotorSafety
from myrvm_hardware.settings import ActuatorSettings

PRIORITY = 5  # below that of the thread that watches the interlocks


@dataclass(frozen=True)
class InterlockLevel:
    """An interlock as it is, and since when (monotonic, ns); None: unknown."""

    active: bool | None = None
    since_ns: int = 0


class GateControl:
    """Owns the driver's threads.

    Args:
        changed: called on any thread with each new snapshot that differs from the gate's last; returns at once.
        interlocks_changed: called on any thread when `interlocks` has changed; returns at once.
    """

    def __init__(
        self,
        driver: GateDriver,
        settings: ActuatorSettings,
        changed: Callable[[Snapshot], None],
        log: Any,
        interlocks_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._driver, self._changed, self._interlocks_changed, self._log = driver, changed, interlocks_changed, log
        self._poll_s = settings.poll_period_s
        limits = Limits(
            settings.longest_run_s,
            settings.dead_time_s,
            settings.duty_s,
            settings.duty_window_s,
            settings.interlock_clear_s,
            settings.interlock_stale_s,
        )
        watched = Interlocks(driver.interlocks, limits.clear_s, limits.stale_s)
        belt = [BELT] if settings.belt_line else []
        self._safety = MotorSafety([*(gate.name for gate in settings.gates), *belt], watched, limits)
        self._gates = {gate.name: Gate(gate, self._safety) for gate in settings.gates}
        self._wake = threading.Condition(threading.RLock())
        self._woken = False
        self._driven = self._safety.directions
        self._shown: dict[str, Snapshot] = {}
        self.interlocks: dict[Role, InterlockLevel] = {}
        self.watching_since_ns = 0  # kernel time; no edge was missed since then; 0: nobody watches
        self.watch = InterlockWatch(driver, self._on_interlocks, self._on_blind, log)
        backoff = Backoff(settings.reopen_first_s, settings.reopen_longest_s)
        self.thread = DeviceThread("gate", driver, self._work, self._lost, backoff, log)
        self._forget_interlocks()

    def start(self) -> None:
        """Begin: open the driver, close the gates."""
        self._shown = {}
        self._show()
        self.thread.start()

    def stop(self) -> None:
        """Motors off, threads joined, driver closed."""
        with self._wake:
            # Under the lock: the own thread must not close the driver before the motors are off.
            self.thread.stopping.set()
            for gate in self._gates.values():
                gate.closed(time.monotonic())
            self._safety.failed("the gate is not open", time.monotonic())
            self._settle()
            self._woken = True
            self._wake.notify_all()
        self.thread.stop()
        with self._wake:
            self._forget_interlocks()

    def command(self, name: str, command_id: str, holder: str, verb: int) -> tuple[Refusal, str]:
        """As `Gate.command`, for the gate of that name (empty: the first; STOP: all). A stop has happened at return."""
        with self._wake:
            now_s = time.monotonic()
            if verb == Verb.STOP and not name:
                answers = [gate.command(command_id, holder, verb, now_s) for gate in self._gates.values()]
                answer = answers[0]
            elif gate := self._gates.get(name or next(iter(self._gates))):
                answer = self._in_the_way(gate, command_id, verb) or gate.command(command_id, holder, verb, now_s)
            else:
                answer = Refusal.UNKNOWN, ""
            self._settle()
        return answer

    def measured(self, current_a: float) -> None:
        """The current through the motors, A."""
        with self._wake:
            if not self._safety.running:
                return
            for gate in self._gates.values():
                gate.measured(current_a, time.monotonic())

    def chamber(self, occupied: bool | None) -> None:
        """What the entry sensor tells of the chamber before the gates; None: unknown."""
        with self._wake:
            for gate in self._gates.values():
                gate.chamber(occupied, time.monotonic())

    def check(self) -> None:
        """To be called now and then: sees that somebody watches, and that the driver has what it needs."""
        with self._wake:
            try:
                if not self._safety.problem:
                    self._driver.check()
            except DeviceError as error:
                self._fail(str(error))
            self._settle()

    def _in_the_way(self, gate: Gate, command_id: str, verb: int) -> tuple[Refusal, str] | None:
        if verb == Verb.STOP or gate.knows(command_id, verb):
            return None
        for other in self._gates.values():
            if other is not gate and other.holder:
                return Refusal.BUSY, other.holder
            if other is not gate and not other.is_closed and verb in (Verb.ACCEPT, Verb.RETURN, Verb.OPEN):
                return Refusal.BUSY, f"gate {other.name}, which is not closed"
        return None

    # The interlocks, told by the watching thread

    def _on_interlocks(self, edges: Sequence[Edge], levels: Mapping[Role, bool] | None) -> None:
        with self._wake:
            now_s, before = time.monotonic(), dict(self.interlocks)
            for edge in edges:
                self._safety.interlocks.edge(edge.role, edge.active, now_s)
                self.interlocks[edge.role] = InterlockLevel(edge.active, edge.monotonic_ns)
            if levels is not None:
                self._safety.interlocks.read(levels, now_s)
                for role, active in levels.items():
                    if self.interlocks[role].active != active:
                        self.interlocks[role] = InterlockLevel(active, time.monotonic_ns())
            self._settle()
            if self.interlocks != before:
                self._interlocks_changed()

    def _on_blind(self, why: str) -> None:
        with self._wake:
            self._fail(why)
            self._settle()

    def _forget_interlocks(self) -> None:
        self.watching_since_ns = 0
        unknown = dict.fromkeys(self._driver.interlocks, InterlockLevel())
        if self.interlocks != unknown:
            self.interlocks = unknown
            self._interlocks_changed()

    # The own thread

    def _work(self) -> None:
        real_time(PRIORITY)  # where that is permitted: the guard takes a late word for a stuck thread
        positions, levels = self._driver.positions(), self._driver.levels()
        self.thread.succeeded()
        with self._wake:
            now_s = time.monotonic()
            self._driven = dict.fromkeys(self._driven, Direction.OFF)
            self._safety.opened(now_s)
            for gate in self._gates.values():
                gate.opened(now_s)
            self.watching_since_ns = time.monotonic_ns()
        self._on_interlocks((), levels)
        self.watch.start()
        try:
            self._move(positions)
        finally:
            with contextlib.suppress(DeviceError):
                self._driver.off()
            self.watch.stop()
            with self._wake:
                self._forget_interlocks()

    def _move(self, positions: dict[str, EndSwitch]) -> None:
        while True:
            with self._wake:
                if self.thread.stopping.is_set():
                    return
                self._tick(positions)
                if not self._woken:
                    self._wake.wait(self._wait_s())
                self._woken = False
            positions = self._driver.positions()

    def _tick(self, positions: dict[str, EndSwitch]) -> None:
        now_s = time.monotonic()
        if self._safety.problem:  # found on another thread
            raise DeviceError(self._safety.problem)
        if self._safety.running and not self._driver.keep():
            for gate in self._gates.values():
                gate.interrupted(now_s)
        for gate in self._gates.values():
            others = (other for other in self._gates.values() if other is not gate)
            gate.tick(positions[gate.name], now_s, may_home=not any(other.holder for other in others))
        self._drive(self._safety.directions)
        self._show()

    def _wait_s(self) -> float | None:
        if self._safety.running:
            return self._poll_s
        now_s = time.monotonic()
        clear_s = self._safety.next_s(now_s)
        waits = [wait for gate in self._gates.values() if (wait := gate.next_tick_s()) is not None]
        return min([*waits, *([] if clear_s is None else [clear_s - now_s])], default=None)

    def _settle(self) -> None:
        """After something came in on a foreign thread: stop motors here, leave the rest to the own thread."""
        now_s = time.monotonic()
        for gate in self._gates.values():
            gate.check(now_s)
        wanted = self._safety.directions
        try:
            self._drive({name: driven if wanted[name] else Direction.OFF for name, driven in self._driven.items()})
        except DeviceError as error:
            self._log.error("motor cannot be switched off", error=str(error))
            self._fail(str(error))
        self._show()
        if self._safety.problem or any(gate.next_tick_s() is not None for gate in self._gates.values()):
            self._woken = True
            self._wake.notify_all()

    def _drive(self, directions: dict[str, Direction]) -> None:
        if directions != self._driven:
            self._driver.drive(directions)
            self._driven = dict(directions)

    def _lost(self, problem: str) -> None:
        with self._wake:
            self._fail(problem)
            self._driven = dict.fromkeys(self._driven, Direction.OFF)
            self._show()

    def _fail(self, problem: str) -> None:
        now_s = time.monotonic()
        self._safety.failed(problem, now_s)
        for gate in self._gates.values():
            gate.failed(now_s)

    def _show(self) -> None:
        for gate in self._gates.values():
            snapshot = gate.snapshot()
            if snapshot != self._shown.get(gate.name):
                self._shown[gate.name] = snapshot
                self._changed(snapshot)
