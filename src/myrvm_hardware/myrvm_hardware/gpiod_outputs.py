"""The cabinet's named outputs as lines of a GPIO chip."""

from __future__ import annotations

import re
from collections.abc import Mapping

from myrvm_core.errors import SettingsError

from myrvm_hardware.gpio_lines import Lines, Output, parse_lines
from myrvm_hardware.settings import ActuatorSettings

NAME = re.compile(r"[a-z][a-z0-9_]*")
WHERE = "actuator.outputs"


class GpiodOutputs:
    """One request for all lines, so that they change together. Raises SettingsError for what can never work."""

    def __init__(self, settings: ActuatorSettings) -> None:
        outputs = settings.outputs
        names = [entry.partition("=")[0].strip() for entry in outputs.lines]
        if wrong := [name for name in names if not NAME.fullmatch(name)]:
            raise SettingsError(f"{WHERE}.lines: name {wrong[0]!r} is not allowed: small letters, digits and _")
        lines = parse_lines(f"{WHERE}.lines", outputs.lines, names or ("light_ring",), all_of_them=False)
        for parameter, listed in (("active_low", outputs.active_low), ("safe_on", outputs.safe_on)):
            if unknown := [name for name in listed if name not in lines]:
                raise SettingsError(f"{WHERE}.{parameter}: {unknown[0]!r} is not in {WHERE}.lines")
        device = outputs.device or settings.device
        if device == settings.device:
            gates = [entry for gate in settings.gates for entry in (*gate.motor_lines, *gate.switch_lines)]
            taken = {entry.partition("=")[2].strip() for entry in (*gates, *settings.interlock_lines)}
            taken |= {settings.watchdog_line, settings.belt_line}
            if shared := [entry for entry in outputs.lines if entry.partition("=")[2].strip() in taken]:
                raise SettingsError(f"{WHERE}.lines: {shared[0]} is a line of the gate too")
        self.safe_on = {name: name in outputs.safe_on for name in lines}
        self._settings = {name: Output(name in outputs.active_low, active=self.safe_on[name]) for name in lines}
        self._lines = Lines(device, lines)

    def open(self) -> None:
        """Request the lines with their safe values. Raises DeviceError."""
        self._lines.open(self._settings)

    def set(self, values: Mapping[str, bool]) -> None:
        """Switch outputs, all at once. Raises DeviceError."""
        self._lines.set(values)

    def levels(self) -> dict[str, bool]:
        """Whether each output is on, read back from its line. Raises DeviceError."""
        return self._lines.levels()

    def close(self) -> None:
        """Safe values, then give all lines back; harmless when they are not ours. Raises DeviceError."""
        try:
            if self._lines.is_open:
                self._lines.set(self.safe_on)
        finally:
            self._lines.close()
