"""A simulated HX711 with a load cell, without I/O: edges of its clock go in, the level of its data line comes out.

A stand-in for hardware. Its one cell is wired to both of its inputs. Source: AVIA Semiconductor, HX711 data sheet: data
low says that a conversion is ready; each rising clock shifts out a bit, the highest first; the 25th sets data high, and
25, 26 or 27 pulses choose channel and gain of the next conversion; a clock that stays high powers the chip down, and
when it is low again the chip begins anew with channel A, gain 128. Clocks before a conversion is ready do nothing.
"""

from __future__ import annotations

from collections.abc import Callable

BITS = 24
GAINS = {25: 1.0, 26: 0.25, 27: 0.5}  # of channel A 128, B 32, A 64: pulses, and the counts against those of A 128
CONVERSION_NS, SETTLING_NS = 100_000_000, 400_000_000


class LoadCell:
    """The chip.

    Args:
        counts: what the cell gives at channel A, gain 128, at a time (CLOCK_MONOTONIC, ns).
        power_down_ns: a clock that is high for longer powers the chip down; 60 us in the data sheet.
        now_ns: when it is switched on.
    """

    def __init__(self, counts: Callable[[int], int], power_down_ns: int, now_ns: int) -> None:
        self._counts, self._power_down_ns = counts, power_down_ns
        self._high_since_ns: int | None = None
        self._bits, self._sample = 0, 0
        self._pulses, self._next = 0, 25
        self._ready_ns = now_ns + SETTLING_NS

    def data(self, now_ns: int) -> bool:
        """The level of the data line."""
        self._advance(now_ns)
        if self._is_down(now_ns) or self._pulses > BITS:
            return True
        if self._pulses == 0:
            return now_ns < self._ready_ns
        return bool(self._sample >> (BITS - self._pulses) & 1)

    def clock(self, level: bool, at_ns: int) -> None:
        """The clock line has changed."""
        self._advance(at_ns)
        if level:
            self._high_since_ns = at_ns
            self._rise(at_ns)
            return
        if self._is_down(at_ns):
            self._pulses, self._next, self._ready_ns = 0, min(GAINS), at_ns + SETTLING_NS
        self._high_since_ns = None

    def _advance(self, now_ns: int) -> None:
        if self._pulses > BITS and now_ns >= self._ready_ns:
            self._pulses = 0  # the next conversion is there

    def _is_down(self, now_ns: int) -> bool:
        return self._high_since_ns is not None and now_ns - self._high_since_ns > self._power_down_ns

    def _rise(self, at_ns: int) -> None:
        if self._pulses == 0:
            if at_ns < self._ready_ns:
                return
            value = round(self._counts(at_ns) * GAINS[self._next])
            highest = (1 << (BITS - 1)) - 1
            self._sample = min(highest, max(-highest - 1, value)) & ((1 << BITS) - 1)
        self._pulses += 1
        if self._pulses > BITS:
            self._next = min(self._pulses, max(GAINS))
            self._ready_ns = at_ns + CONVERSION_NS
