"""Digital sensors as input lines of a GPIO chip (driver `gpiod`)."""

from __future__ import annotations

from collections.abc import Set

from myrvm_hardware.drivers import DIGITAL_BY_NAME, Edge, Role
from myrvm_hardware.gpio_lines import Input, Lines, parse_lines
from myrvm_hardware.settings import SensorSettings, hold_s


class GpiodSensors:
    """One request for all lines, with edge events."""

    def __init__(self, device: str, settings: SensorSettings) -> None:
        lines = parse_lines("sensor.lines", settings.lines, DIGITAL_BY_NAME, all_of_them=False)
        bias = ("up" if settings.active_low else "down") if settings.bias == "auto" else settings.bias
        times_s = hold_s(settings.debounce)
        self._settings = {
            purpose: Input(
                settings.active_low, bias, True, times_s[DIGITAL_BY_NAME[purpose]] if settings.kernel_debounce else 0.0
            )
            for purpose in lines
        }
        self.lines = Lines(device, lines)
        self.debounced: frozenset[Role] = frozenset()
        # The kernel stamps an edge when its level has held; it began that much earlier.
        self._delays_ns = {purpose: round(line.debounce_s * 1e9) for purpose, line in self._settings.items()}

    def open(self) -> None:
        """Request all lines. Raises DeviceError."""
        self.lines.open(self._settings)
        self.debounced = frozenset(DIGITAL_BY_NAME[purpose] for purpose in self.lines.debounced)

    def levels(self) -> dict[Role, bool]:
        """The level of each line. Raises DeviceError."""
        return {DIGITAL_BY_NAME[purpose]: active for purpose, active in self.lines.levels().items()}

    def read_edges(self, timeout_s: float) -> tuple[list[Edge], int]:
        """Wait for edges; also how many were lost. Raises DeviceError."""
        edges, lost = self.lines.read_edges(timeout_s)
        debounced = self.lines.debounced
        return [
            Edge(
                DIGITAL_BY_NAME[edge.purpose],
                edge.active,
                edge.monotonic_ns - (self._delays_ns[edge.purpose] if edge.purpose in debounced else 0),
            )
            for edge in edges
        ], lost

    def listen(self, roles: Set[Role]) -> None:
        """Have the kernel report edges of these sensors only. Raises DeviceError."""
        self.lines.listen({purpose for purpose in self._settings if DIGITAL_BY_NAME[purpose] in roles})

    def close(self) -> None:
        """Give the lines back."""
        self.lines.close()
