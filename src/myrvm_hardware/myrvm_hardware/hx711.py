"""A load cell amplifier HX711 on two GPIO lines (driver `hx711`): its clock is given, its bits are read, by hand.

The clock must not stay high for 60 us: the chip then powers down, and what follows is nonsense. Linux user space cannot
promise that, so every high time is measured, from before the line is set to after it is cleared again. After a longer
one the chip is reset on purpose, by a longer one still, and the sample is taken anew. On a busy machine most may be
lost; the kernel's own `hx711` driver (driver `iio` here) shifts the bits with interrupts off and is the better choice.
Source: AVIA Semiconductor, HX711 data sheet.
"""

from __future__ import annotations

import time

from myrvm_core.errors import DeviceError, SettingsError

from myrvm_hardware.drivers import Role
from myrvm_hardware.gpio_lines import Input, Lines, Output
from myrvm_hardware.settings import AnalogSettings

PULSES = {"A128": 25, "B32": 26, "A64": 27}  # channel and gain of the next conversion
BITS = 24
AFTER_RESET = "A128"
READY_S, POLL_S = 1.0, 0.005  # a conversion takes 100 ms, after a reset 400 ms
TRIES = 3
SATURATED = (-(1 << 23), (1 << 23) - 1)


class Hx711:
    """One channel: counts before the calibration in the settings.

    Args:
        device: the GPIO chip, by path, name or label.
        settings: `data_line`, `clock_line`, and `channel` (A128, B32 or A64).
        role: what is measured.
    """

    def __init__(self, device: str, settings: AnalogSettings, role: Role, _sysfs_root: str = "") -> None:
        self._role = role
        channel = settings.channel or "A128"
        if channel not in PULSES:
            raise SettingsError(f"channel = {channel!r} is not allowed: {', '.join(PULSES)}")
        self._channel = channel
        self._longest_high_us = settings.clock_high_us
        self._selected = False
        lines = {"data": settings.data_line, "clock": settings.clock_line}
        for purpose, line in lines.items():
            if not line:
                raise SettingsError(f"{purpose}_line = '' is not allowed: a line by name or offset")
        if settings.data_line == settings.clock_line:
            raise SettingsError(f"clock_line = {settings.clock_line!r} is not allowed: it is the data line too")
        self._lines = Lines(device, {name: int(line) if line.isdecimal() else line for name, line in lines.items()})

    def open(self) -> None:
        """Take the lines, and reset the chip: nobody knows where its last reader stopped. Raises DeviceError."""
        self._lines.open({"data": Input(edges=False), "clock": Output()})
        self._reset()

    def read(self) -> dict[Role, float]:
        """One sample, counts of 24 bits with sign.

        Raises:
            DeviceError: no sample is ready within a second, the bridge is out of range, or no try was fast enough.
        """
        for _ in range(TRIES):
            counts = self._conversion()
            if counts is not None and not self._selected:
                self._selected = True  # this one was of another channel; its pulses have chosen ours
                counts = self._conversion()
            if counts in SATURATED:
                raise DeviceError(f"hx711 is out of range ({counts}): load cell not connected or overloaded")
            if counts is not None:
                return {self._role: float(counts)}
            self._reset()
        raise DeviceError(
            f"hx711: the clock was high for more than {self._longest_high_us:g} us in each of {TRIES} tries: "
            "the machine is too busy; use the kernel's driver (iio)"
        )

    def close(self) -> None:
        """Give the lines back; the clock stays low."""
        self._lines.close()

    def _reset(self) -> None:
        """Power the chip down and up again; it then converts its first channel."""
        self._lines.set({"clock": True})
        time.sleep(2e-6 * self._longest_high_us)
        self._lines.set({"clock": False})
        self._selected = self._channel == AFTER_RESET

    def _conversion(self) -> int | None:
        """The bits of the next conversion; None when a pulse was too long."""
        end_s = time.monotonic() + READY_S
        while self._lines.levels()["data"]:
            if time.monotonic() > end_s:
                raise DeviceError(f"hx711 gives no sample within {READY_S:g} s: not connected, or without power")
            time.sleep(POLL_S)
        value = 0
        for pulse in range(PULSES[self._channel]):
            begun_ns = time.monotonic_ns()
            self._lines.set({"clock": True})
            self._lines.set({"clock": False})
            if time.monotonic_ns() - begun_ns >= self._longest_high_us * 1000:
                return None
            if pulse < BITS:
                value = value << 1 | self._lines.levels()["data"]
        return value - (1 << BITS) if value >> (BITS - 1) else value
