"""Runs the gate's state machine on a thread of its own: looks at the end switches, switches the motor.

The thread sleeps until something comes in and looks each few milliseconds only while the gate moves. Every way out
switches the motor off. Stops (`command` STOP, sensors) take effect on the caller's thread, without waiting for ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from myrvm_core.backoff import Backoff
from myrvm_core.errors import DeviceError, SettingsError

from myrvm_hardware.device_thread import DeviceThread
from myrvm_hardware.drivers import DIGITAL, Direction, GateDriver, Role
from myrvm_hardware.gate import Gate, Refusal, Snapshot
from myrvm_hardware.settings import ActuatorSettings


class GateControl:
    """Owns the driver's thread.

    Args:
        changed: called on any thread with each new snapshot that differs from the last; returns at once.
    """

    def __init__(
        self, driver: GateDriver, settings: ActuatorSettings, changed: Callable[[Snapshot], None], log: Any
    ) -> None:
        self._driver, self._changed, self._log = driver, changed, log
        self._gate = Gate(settings, interlock_roles(settings.interlock_roles))
        self._wake = threading.Condition(threading.RLock())
        self._woken = False
        self._driven = Direction.OFF
        self._shown: Snapshot | None = None
        backoff = Backoff(settings.reopen_first_s, settings.reopen_longest_s)
        self.thread = DeviceThread("gate", driver, self._work, self._lost, backoff, log)

    def start(self) -> None:
        """Begin: open the driver, close the gate."""
        self._shown = None
        self._show()
        self.thread.start()

    def stop(self) -> None:
        """Motor off, thread joined, driver closed."""
        with self._wake:
            # Under the lock: the own thread must not close the driver before the motor is off.
            self.thread.stopping.set()
            self._gate.closed(time.monotonic())
            self._settle()
        self.thread.stop()

    def command(self, command_id: str, holder: str, verb: int) -> tuple[Refusal, str]:
        """As `Gate.command`; a stop has happened when this returns."""
        with self._wake:
            answer = self._gate.command(command_id, holder, verb, time.monotonic())
            self._settle()
        return answer

    def sensed(self, levels: Mapping[Role, bool | None], age_s: float) -> None:
        """The sensors as they were `age_s` seconds ago."""
        with self._wake:
            now_s = time.monotonic()
            self._gate.sensed(levels, now_s - max(0.0, age_s))
            self._gate.check(now_s)
            self._settle()

    def check(self) -> None:
        """To be called now and then: stops a gate whose sensors went silent or whose own thread hangs in its driver."""
        with self._wake:
            now_s = time.monotonic()
            self._gate.check(now_s)
            if self._gate.overdue(now_s):
                self._gate.failed("the gate's driver does not answer", now_s)
            self._settle()

    def _settle(self) -> None:
        """After something came in on a foreign thread: stop the motor here, leave the rest to the own thread."""
        if self._gate.motor == Direction.OFF and self._driven != Direction.OFF:
            try:
                self._drive()
            except DeviceError as error:
                self._log.error("motor cannot be switched off", error=str(error))
                self._gate.failed(str(error), time.monotonic())
        self._show()
        if self._gate.next_tick_s() is not None or self._gate.problem:
            self._woken = True
            self._wake.notify_all()

    def _work(self) -> None:
        with self._wake:
            self._driven = Direction.OFF
        position = self._driver.position()
        self.thread.succeeded()
        with self._wake:
            self._gate.opened(time.monotonic())
        while True:
            with self._wake:
                if self.thread.stopping.is_set():
                    return
                if self._gate.problem:  # found on another thread
                    raise DeviceError(self._gate.problem)
                self._gate.tick(position, time.monotonic())
                self._drive()
                self._show()
                if not self._woken:
                    self._wake.wait(self._gate.next_tick_s())
                self._woken = False
            position = self._driver.position()

    def _drive(self) -> None:
        if self._gate.motor != self._driven:
            self._driver.drive(self._gate.motor)
            self._driven = self._gate.motor

    def _lost(self, problem: str) -> None:
        with self._wake:
            self._gate.failed(problem, time.monotonic())
            self._show()

    def _show(self) -> None:
        snapshot = self._gate.snapshot()
        if snapshot != self._shown:
            self._shown = snapshot
            self._changed(snapshot)


def interlock_roles(names: list[str]) -> tuple[Role, ...]:
    """The sensors that `actuator.interlock_roles` names.

    Raises:
        SettingsError: a name is no digital role.
    """
    known = {role.name.lower(): role for role in DIGITAL}
    for name in names:
        if name not in known:
            raise SettingsError(f"actuator.interlock_roles: {name!r} is not known; allowed: {', '.join(known)}")
    return tuple(known[name] for name in names)
