"""Digital sensors as input lines of a GPIO chip (driver `gpiod`)."""

from __future__ import annotations

from myrvm_core.errors import DeviceError

from myrvm_hardware.drivers import DIGITAL, Edge, Role, since_epoch_ns
from myrvm_hardware.gpio_lines import Input, Lines, parse_lines
from myrvm_hardware.settings import SensorSettings

ROLES = {role.name.lower(): role for role in DIGITAL}


class GpiodSensors:
    """Digital sensors as input lines with edge events; there is no analogue sensor on a GPIO chip."""

    def __init__(self, device: str, settings: SensorSettings) -> None:
        lines = parse_lines("sensor.lines", settings.lines, ROLES, all_of_them=False)
        line = Input(active_low=settings.active_low, bias="up" if settings.active_low else "down")
        self._settings = dict.fromkeys(lines, line)
        self._lines = Lines(device, lines)

    def open(self) -> None:
        """Request all lines. Raises DeviceError."""
        self._lines.open(self._settings)

    def levels(self) -> dict[Role, bool]:
        """The level of each line. Raises DeviceError."""
        return {ROLES[purpose]: active for purpose, active in self._lines.levels().items()}

    def read_edges(self, timeout_s: float) -> list[Edge]:
        """Wait for edges. Raises DeviceError, also when the kernel's buffer has run over: read the levels again."""
        edges, lost = self._lines.read_edges(timeout_s)
        if lost:
            raise DeviceError(f"GPIO chip {self._lines.chip} has lost {lost} edges: a sensor chatters")
        return [Edge(ROLES[edge.purpose], edge.active, since_epoch_ns(edge.monotonic_ns)) for edge in edges]

    def measure(self) -> dict[Role, float]:
        """Nothing."""
        return {}

    def close(self) -> None:
        """Give the lines back."""
        self._lines.close()
