"""Carries the outputs' values to their lines, on a thread of its own, and reads them back.

Every way out leaves the safe values: stop, an error, the end of the process by SIGTERM. After kill -9 a line keeps
what it had or falls back to its resistor, as the chip has it (docs/technician.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from myrvm_core.backoff import Backoff
from myrvm_core.machine_mode import Mode

from myrvm_hardware.device_thread import DeviceThread
from myrvm_hardware.outputs import Outputs, Refusal, differing

STOPPED = "the outputs are not driven now"
LOOK_S = 1.0  # the lines are read back so often at least


class OutputDriver(Protocol):
    """The outputs' lines. Used by one thread."""

    def open(self) -> None:
        """Claim the outputs with their safe values. Raises DeviceError."""

    def set(self, values: Mapping[str, bool]) -> None:
        """Switch outputs. Raises DeviceError."""

    def levels(self) -> dict[str, bool]:
        """Read each output back. Raises DeviceError."""
        ...

    def close(self) -> None:
        """Safe values, release; harmless when not open."""


Answer = Callable[[Refusal, str, bool], None]  # refusal, one line for a person, read back


class OutputControl:
    """Owns the driver's thread.

    Args:
        changed: called on the thread with the lines' values, each time that they differ from the last.
    """

    def __init__(
        self, driver: OutputDriver, outputs: Outputs, backoff: Backoff, changed: Callable[[dict[str, bool]], None],
        log: Any,
    ) -> None:  # fmt: skip
        self._driver, self._outputs, self._changed = driver, outputs, changed
        self._wake = threading.Condition()
        self._woken, self._stopped = False, True
        self._waiting: list[tuple[str, Answer]] = []
        self._shown: dict[str, bool] | None = None
        self._differed: frozenset[str] = frozenset()
        self._differing: frozenset[str] = frozenset()
        self.thread = DeviceThread("outputs", driver, self._work, self._lost, backoff, log)

    def start(self) -> None:
        """Begin."""
        self._shown, self._stopped = None, False
        self.thread.start()

    def stop(self) -> None:
        """Safe values, thread joined, lines given back."""
        with self._wake:
            self.thread.stopping.set()
            self._woken = True
            self._wake.notify_all()
            self._stopped = True
        self.thread.stop()
        self._lost(STOPPED)

    @property
    def problem(self) -> str:
        """What is wrong, one line; empty when all is well."""
        if self._stopped or self.thread.problem:
            return STOPPED if self._stopped else self.thread.problem
        return f"outputs do not read as driven: {', '.join(sorted(self._differing))}" if self._differing else ""

    def mode(self, mode: Mode) -> None:
        """The machine's mode."""
        self._told(lambda now_s: self._outputs.mode(mode, now_s))

    def looking(self, looking: bool) -> None:
        """Whether an item is looked at."""
        self._told(lambda now_s: self._outputs.looking(looking, now_s))

    def refused(self) -> None:
        """An item is given back."""
        self._told(self._outputs.refused)

    def dark(self, dark: bool) -> None:
        """Lamps off but while a picture is taken."""
        self._told(lambda _: self._outputs.dark(dark))

    def door(self, opened: bool | None, age_s: float) -> None:
        """The service door as it was `age_s` ago."""
        self._told(lambda now_s: self._outputs.door(opened, now_s - max(0.0, age_s)))

    def call(
        self, name: str, on: bool, duration_s: float, technician: bool, answer: Answer, from_afar: bool = False
    ) -> None:
        """As `Outputs.call`; `answer` is called once, on any thread, when the line is switched and read back."""
        with self._wake:
            refusal, why = self._outputs.call(name, on, duration_s, technician, time.monotonic(), from_afar)
            problem = STOPPED if self._stopped else self.thread.problem
            if refusal == Refusal.NONE and not problem:
                self._waiting.append((name, answer))
                self._woken = True
                self._wake.notify_all()
                return
        answer(refusal or Refusal.FAULT, why or problem, (self._shown or {}).get(name, False))

    def _told(self, tell: Callable[[float], None]) -> None:
        with self._wake:
            now_s = time.monotonic()
            before, _ = self._outputs.values(now_s)
            tell(now_s)
            if self._outputs.values(now_s)[0] != before:
                self._woken = True
                self._wake.notify_all()

    def _work(self) -> None:
        driven: dict[str, bool] = {}
        while not self.thread.stopping.is_set():
            with self._wake:
                self._woken = False
                wanted, _ = self._outputs.values(time.monotonic())
                waiting, self._waiting = self._waiting, []
            try:
                if wanted != driven:
                    self._driver.set(wanted)
                    driven = wanted
                levels = self._driver.levels()
            except Exception as error:
                self._refuse(waiting, str(error))
                raise
            self.thread.succeeded()
            # A slow driver stage may need a moment: only what differs at two looks is a fault.
            differ = frozenset(differing(wanted, levels))
            self._differing, self._differed = differ & self._differed, differ
            if levels != self._shown:
                self._shown = levels
                self._changed(dict(levels))
            for name, answer in waiting:
                answer(Refusal.NONE, "", levels[name])
            with self._wake:
                if not self._woken:
                    _, next_s = self._outputs.values(time.monotonic())
                    self._wake.wait(min(next_s, LOOK_S))

    def _lost(self, problem: str) -> None:
        with self._wake:
            waiting, self._waiting = self._waiting, []
        self._differing = self._differed = frozenset()
        self._refuse(waiting, problem)

    @staticmethod
    def _refuse(waiting: list[tuple[str, Answer]], why: str) -> None:
        for _, answer in waiting:
            answer(Refusal.FAULT, why, False)
