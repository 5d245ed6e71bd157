"""What a raw sample is worth, without I/O: calibrated, and refused when it cannot be true.

(raw - offset) * scale - tare; then the range, then a median against spikes, then the rate. A change that is too fast
is refused until it has stood for some samples: a thing put on a scale is one, a spike is none.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

from myrvm_hardware.settings import AnalogSettings

STANDS = 3  # refused samples in a row after which a fast change is believed


class ImplausibleError(Exception):
    """A sample that cannot be true; the message says why."""


class Plausibility:
    """One sensor's filter.

    Args:
        name: of the sensor, for the messages.
        settings: calibration and limits.
    """

    def __init__(self, name: str, settings: AnalogSettings) -> None:
        self._name, self._settings = name, settings
        self._window: deque[float] = deque(maxlen=settings.median)
        self._last: tuple[float, float] | None = None  # value and time, s
        self._refused = 0

    def take(self, raw: float, now_s: float) -> float:
        """The value of a sample taken at `now_s` (monotonic), SI units.

        Raises:
            ImplausibleError: not a number, outside of the range, or changed too fast.
        """
        settings = self._settings
        value = (raw - settings.offset) * settings.scale - settings.tare
        if not math.isfinite(value):
            raise ImplausibleError(f"{self._name} reads {raw}: no number")
        if not settings.minimum <= value <= settings.maximum:
            raise ImplausibleError(
                f"{self._name} = {value:.4g} is not plausible: {settings.minimum:g} .. {settings.maximum:g}"
            )
        self._window.append(value)
        filtered = median(self._window)
        if self._last is not None and settings.largest_rate > 0.0:
            before, before_s = self._last
            allowed = settings.largest_rate * max(now_s - before_s, settings.period_s)
            if abs(filtered - before) > allowed and self._refused < STANDS:
                self._refused += 1
                raise ImplausibleError(f"{self._name} jumps from {before:.4g} to {filtered:.4g}")
        self._refused, self._last = 0, (filtered, now_s)
        return filtered
