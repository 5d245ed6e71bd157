"""When to connect again: exponential with full jitter, forgotten only after a connection that lasted. No I/O, no clock.

A thousand machines that lose their server at one moment are the case to plan for; docs/protocol.md derives the bound.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from myrvm_core.backoff import Backoff

from myrvm_cloud.event_protocol import Retry

RECONNECT = Backoff(1.0, 60.0)
AT_ONCE_LIMIT = 3
SHORTEST_BACK_OFF_S = 1.0
SLOW_SPREAD = 0.5


@dataclass
class Reconnect:
    """One line's waits.

    Args:
        backoff: of ordinary losses.
        lasted_s: a connection that stood so long makes the next loss the first again.
        slow_s: around this long between two tries where the server refuses the machine as it is.
        generator: of the waits.
    """

    backoff: Backoff = RECONNECT
    lasted_s: float = 60.0
    slow_s: float = 300.0
    generator: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._failures = self._sent_away = 0
        self._connected_s: float | None = None

    def connected(self, now_s: float) -> None:
        """A connection stands."""
        self._connected_s = now_s

    def wait_s(self, retry: Retry, now_s: float, at_least_s: float = 0.0) -> float:
        """A connection was lost, or could not be made: how long to wait, s.

        "At once" is within the first wait's ceiling, not growing, up to three times in a row: a server that sends all
        of its machines away at one moment is not met by all of them at the next.
        """
        if self._connected_s is not None and now_s >= self._connected_s + self.lasted_s:
            self._failures = self._sent_away = 0
        self._connected_s = None
        if retry is Retry.SLOWLY:
            return self.slow_s * self.generator.uniform(1.0 - SLOW_SPREAD, 1.0 + SLOW_SPREAD)
        if retry is Retry.AT_ONCE and self._sent_away < AT_ONCE_LIMIT:
            self._sent_away += 1
            return self.backoff.delay_s(0, self.generator)
        wait_s = self.backoff.delay_s(self._failures, self.generator)
        self._failures += 1
        return max(wait_s, at_least_s, SHORTEST_BACK_OFF_S if retry is Retry.BACK_OFF else 0.0)
