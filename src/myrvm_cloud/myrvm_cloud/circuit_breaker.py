"""Leaves an endpoint alone that fails time and again, and finds out with one call at a time when it is well.

Sans-I/O: time is an argument. Source of the pattern: M. Nygard, "Release It!", 2007, "Circuit Breaker".
"""

from __future__ import annotations

import random
from enum import Enum

from myrvm_core.backoff import Backoff


class Circuit(Enum):
    """Closed: calls go. Open: none goes. Half open: one goes and decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class CircuitBreaker:
    """One endpoint.

    Args:
        failures: so many in a row open the circuit.
        backoff: how long it stays open; each failed trial counts as one more attempt.
        generator: of the jitter.
    """

    def __init__(self, failures: int, backoff: Backoff, generator: random.Random | None = None) -> None:
        self._limit, self._backoff, self._generator = failures, backoff, generator
        self._failures = 0
        self._open_until_s = 0.0
        self._trial = False

    def circuit(self, now_s: float) -> Circuit:
        """As it is now."""
        if self._failures < self._limit:
            return Circuit.CLOSED
        return Circuit.OPEN if now_s < self._open_until_s else Circuit.HALF_OPEN

    def ask(self, now_s: float) -> float:
        """0 where a call may go now: tell its end by `succeeded`, `failed` or `abandoned`. Else how long to wait, s."""
        circuit = self.circuit(now_s)
        if circuit is Circuit.OPEN:
            return self._open_until_s - now_s
        if circuit is Circuit.HALF_OPEN:
            if self._trial:
                return self._backoff.base_s  # until the one that is under way has decided
            self._trial = True
        return 0.0

    def succeeded(self) -> None:
        """The endpoint is well."""
        self._failures, self._trial = 0, False

    def failed(self, now_s: float) -> None:
        """The endpoint is not well. A straggler from before the circuit opened prolongs nothing."""
        straggler = self._failures >= self._limit and not self._trial
        if straggler:
            return
        self._failures, self._trial = self._failures + 1, False
        if self._failures >= self._limit:
            delay_s = self._backoff.delay_s(self._failures - self._limit, self._generator)
            self._open_until_s = now_s + delay_s

    def abandoned(self) -> None:
        """The call was given up before anything was known."""
        self._trial = False
