"""How far the server's clock is ahead of this machine's, from all that it says about its time.

An answer with a time in it bounds the offset from both sides: the server took its time after the request was sent and
before the answer was here. Bounds are intersected (K. Marzullo, 1984), so that many `Date` headers, good for a second
each, together are better than a second. Sans-I/O: times are arguments.
"""

from __future__ import annotations

DRIFT = 100e-6  # of two quartz clocks, s a second
DATE_RESOLUTION_S = 1.0


class ClockSkew:
    """Bounds of "server's time of day minus this machine's monotonic time": a step of our clock does not matter."""

    def __init__(self) -> None:
        self._low_s = self._high_s = 0.0
        self._heard_s: float | None = None

    def hear(self, server_s: float, resolution_s: float, sent_s: float, received_s: float) -> None:
        """The server's clock showed `server_s` between two moments of this machine's monotonic clock.

        Args:
            server_s: s since the epoch, cut off to `resolution_s`.
            resolution_s: 0 where it is exact.
            sent_s: the request began to be sent, monotonic.
            received_s: the answer was here, monotonic.
        """
        low_s, high_s = server_s - received_s, server_s + resolution_s - sent_s
        if self._heard_s is not None:
            aged_s = (received_s - self._heard_s) * DRIFT
            both = max(low_s, self._low_s - aged_s), min(high_s, self._high_s + aged_s)
            if both[0] <= both[1]:  # else the server's clock was set: only the newest counts
                low_s, high_s = both
        self._low_s, self._high_s, self._heard_s = low_s, high_s, received_s

    @property
    def known(self) -> bool:
        """Whether anything was heard."""
        return self._heard_s is not None

    def offset_s(self, now_s: float, monotonic_s: float) -> float:
        """Server minus machine, s; 0 before anything was heard. `now_s` and `monotonic_s` are the same moment."""
        return (self._low_s + self._high_s) / 2 + monotonic_s - now_s if self.known else 0.0

    @property
    def uncertainty_s(self) -> float:
        """The offset is right to within so much, s."""
        return (self._high_s - self._low_s) / 2
