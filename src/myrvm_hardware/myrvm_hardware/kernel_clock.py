"""Kernel time (CLOCK_MONOTONIC, ns) turned into ROS time (ns since the epoch): the one converter of a process.

The two clocks run apart while NTP slews the time of day, and jump apart when it is set. The offset between them is
measured at each conversion, one clock read between two reads of the other; a small change is followed by and by, so
that stamps never go backwards, a large one is a jump of the clock and is taken at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STEP_NS = 100_000_000  # a larger error is a jump
SLEW = 0.1  # part of the time that goes by; chrony slews the time of day by a twelfth at most, the kernel by 0.05 %
CERTAIN_NS = 50_000  # a measurement that was interrupted for longer says nothing
TRIES = 3


class KernelClock:
    """The offset and its history. Any thread may convert.

    Args:
        monotonic_ns: reads kernel time.
        epoch_ns: reads the time of day.
    """

    def __init__(
        self, monotonic_ns: Callable[[], int] = time.monotonic_ns, epoch_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._monotonic_ns, self._epoch_ns = monotonic_ns, epoch_ns
        self._lock = threading.Lock()
        self.jumps = 0
        self._offset_ns, _ = self._measure()
        self._measured_ns = monotonic_ns()
        self._last = (0, 0)  # what was converted last, and to what

    def since_epoch_ns(self, monotonic_ns: int) -> int:
        """ROS time of a kernel time stamp. A later stamp never becomes an earlier time, but across a jump."""
        with self._lock:
            self._follow()
            asked_ns, given_ns = self._last
            converted_ns = monotonic_ns + self._offset_ns
            if monotonic_ns < asked_ns:
                return min(converted_ns, given_ns) if given_ns else converted_ns
            converted_ns = max(converted_ns, given_ns)
            self._last = (monotonic_ns, converted_ns)
            return converted_ns

    def _follow(self) -> None:
        measured_ns, uncertain_ns = self._measure()
        now_ns = self._monotonic_ns()
        if uncertain_ns > CERTAIN_NS:
            return
        error_ns = measured_ns - self._offset_ns
        if abs(error_ns) > STEP_NS:
            self._offset_ns = measured_ns
            self._last = (self._last[0], 0)
            self.jumps += 1
        else:
            limit_ns = round((now_ns - self._measured_ns) * SLEW)
            self._offset_ns += max(-limit_ns, min(limit_ns, error_ns))
        self._measured_ns = now_ns

    def _measure(self) -> tuple[int, int]:
        """Offset, and how far it may be wrong; the best of some tries."""
        tries: list[tuple[int, int]] = []
        for _ in range(TRIES):
            before_ns, epoch_ns, after_ns = self._monotonic_ns(), self._epoch_ns(), self._monotonic_ns()
            tries.append(((after_ns - before_ns + 1) // 2, epoch_ns - (before_ns + after_ns) // 2))
        uncertain_ns, offset_ns = min(tries)
        return offset_ns, uncertain_ns


CLOCK = KernelClock()


def since_epoch_ns(monotonic_ns: int) -> int:
    """ROS time of a kernel time stamp, by the process's converter."""
    return CLOCK.since_epoch_ns(monotonic_ns)
