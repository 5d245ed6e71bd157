"""Bounds how many calls are repeated at once, so that a server in trouble is not troubled more.

Each call earns a part of a retry, each retry costs one: retries are at most `ratio` of the calls, but for a start.
"""

from __future__ import annotations


class RetryBudget:
    """One for all endpoints of a line.

    Args:
        ratio: retries earned by one call.
        capacity: retries that are there at the start, and at most.
    """

    def __init__(self, ratio: float = 0.1, capacity: float = 10.0) -> None:
        self._ratio, self._capacity = ratio, capacity
        self._left = capacity

    def earn(self) -> None:
        """A call was made."""
        self._left = min(self._left + self._ratio, self._capacity)

    def spend(self) -> bool:
        """Whether a retry may be made; it is paid for then."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
