"""A load cell amplifier HX711 on two GPIO lines (driver `hx711`): its clock is given, its bits are read, by hand.

The clock must not stay high for 60 us: the chip then powers down, and what follows is nonsense. Linux user space cannot
promise that, so every high time is measured, from before the line is set to after it is cleared again, and a sample
with a longer one is thrown away. On a busy machine most may be; the kernel's own `hx711` driver (driver `iio` here)
shifts the bits with interrupts off and is the better choice. Source: AVIA Semiconductor, HX711 data sheet.
"""

from __future__ import annotations

import time

from myrvm_core.errors import DeviceError, SettingsError

from myrvm_hardware.drivers import Role
from myrvm_hardware.gpio_lines import Input, Lines, Output
from myrvm_hardware.settings import AnalogSettings

PULSES = {"A128": 25, "B32": 26, "A64": 27}  # channel and gain of the next conversion
BITS = 24
LONGEST_HIGH_NS = 60_000
READY_S, POLL_S = 1.0, 0.005  # a conversion takes 100 ms, after power-up 400 ms
TRIES = 5
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
        self._pulses = PULSES[channel]
        lines = {"data": settings.data_line, "clock": settings.clock_line}
        for purpose, line in lines.items():
            if not line:
                raise SettingsError(f"{purpose}_line = '' is not allowed: a line by name or offset")
        if settings.data_line == settings.clock_line:
            raise SettingsError(f"clock_line = {settings.clock_line!r} is not allowed: it is the data line too")
        self._lines = Lines(device, {name: int(line) if line.isdecimal() else line for name, line in lines.items()})
        self.rejected = 0

    def open(self) -> None:
        """Take the lines and choose the channel by a first conversion, which does not count. Raises DeviceError."""
        self._lines.open({"data": Input(edges=False), "clock": Output()})
        self.read()

    def read(self) -> dict[Role, float]:
        """One sample, counts of 24 bits with sign.

        Raises:
            DeviceError: no sample is ready within a second, the bridge is out of range, or no try was fast enough.
        """
        for _ in range(TRIES):
            self._wait()
            counts = self._shift()
            if counts is not None:
                if counts in SATURATED:
                    raise DeviceError(f"hx711 is out of range ({counts}): load cell not connected or overloaded")
                return {self._role: float(counts)}
            self.rejected += 1
        raise DeviceError(
            f"hx711: the clock was high for more than {LONGEST_HIGH_NS // 1000} us in each of {TRIES} tries: "
            "the machine is too busy; use the kernel's driver (iio)"
        )

    def close(self) -> None:
        """Give the lines back; the clock stays low."""
        self._lines.close()

    def _wait(self) -> None:
        end_s = time.monotonic() + READY_S
        while self._lines.levels()["data"]:
            if time.monotonic() > end_s:
                raise DeviceError(f"hx711 gives no sample within {READY_S:g} s: not connected, or without power")
            time.sleep(POLL_S)

    def _shift(self) -> int | None:
        """The bits; None when a pulse was too long."""
        value, in_time = 0, True
        for pulse in range(self._pulses):
            begun_ns = time.monotonic_ns()
            self._lines.set({"clock": True})
            self._lines.set({"clock": False})
            in_time = in_time and time.monotonic_ns() - begun_ns < LONGEST_HIGH_NS
            if pulse < BITS:
                value = value << 1 | self._lines.levels()["data"]
        return (value - (1 << BITS) if value >> (BITS - 1) else value) if in_time else None
