"""The gate's motor and end switches as lines of a GPIO chip (driver `gpiod`)."""

from __future__ import annotations

from myrvm_core.errors import DeviceError, SettingsError

from myrvm_hardware.drivers import Direction, EndSwitch
from myrvm_hardware.gpio_lines import Input, Lines, Output, parse_lines
from myrvm_hardware.settings import ActuatorSettings

SWITCHES = {switch.name.lower(): switch for switch in EndSwitch if switch != EndSwitch.BETWEEN}
MOTOR = {"to_bin": Direction.TO_BIN, "to_customer": Direction.TO_CUSTOMER}


class GpiodGate:
    """A gate motor with one line for each direction, and three end switches."""

    def __init__(self, device: str, settings: ActuatorSettings) -> None:
        motor = parse_lines("actuator.motor_lines", settings.motor_lines, MOTOR, all_of_them=True)
        switches = parse_lines("actuator.switch_lines", settings.switch_lines, SWITCHES, all_of_them=True)
        if shared := set(motor.values()) & set(switches.values()):
            raise SettingsError(f"actuator.switch_lines: line {shared.pop()} is one of motor_lines too")
        switch = Input(active_low=settings.active_low, bias="up" if settings.active_low else "down", edges=False)
        self._switches = tuple(switches)
        self._settings: dict[str, Input | Output] = {
            **dict.fromkeys(motor, Output(active=False)),
            **dict.fromkeys(switches, switch),
        }
        self._lines = Lines(device, {**motor, **switches})

    def open(self) -> None:
        """Request the lines with the motor off. Raises DeviceError."""
        self._lines.open(self._settings)

    def drive(self, direction: Direction) -> None:
        """Set both motor lines at once; never both active. Raises DeviceError."""
        self._lines.set({purpose: direction == wanted for purpose, wanted in MOTOR.items()})

    def position(self) -> EndSwitch:
        """The end switch that is closed. Raises DeviceError: unreadable, or more than one."""
        levels = self._lines.levels()
        closed = [name for name in self._switches if levels[name]]
        if len(closed) > 1:
            raise DeviceError(f"end switches {' and '.join(closed)} are closed at once: check their wiring")
        return SWITCHES[closed[0]] if closed else EndSwitch.BETWEEN

    def close(self) -> None:
        """Motor off, then give all lines back."""
        try:
            if self._lines.is_open:
                self.drive(Direction.OFF)
        finally:
            self._lines.close()
