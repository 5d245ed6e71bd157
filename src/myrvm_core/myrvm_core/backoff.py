"""Exponential backoff with full jitter: the one policy for reopening, restarting and reconnecting.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Wait between 0 and `min(cap_s, base_s * 2**attempt)` seconds before try number `attempt + 1`."""

    base_s: float
    cap_s: float

    def ceiling_s(self, attempt: int) -> float:
        """Longest wait after `attempt` failures in a row (0 = the first)."""
        return min(self.cap_s, self.base_s * 2.0 ** min(attempt, 62))

    def delay_s(self, attempt: int, generator: random.Random | None = None) -> float:
        """Draw a wait after `attempt` failures in a row."""
        return (generator or random).uniform(0.0, self.ceiling_s(attempt))
