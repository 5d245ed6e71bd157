"""Sensors and gate on a GPIO chip through libgpiod v2 (the `gpiod` package).

Lines are claimed by one request each for inputs and outputs, so that either all are ours or none, and the kernel gives
them back when the process dies. Source: libgpiod 2 Python bindings, and the kernel's GPIO character device, uAPI v2.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import gpiod
from gpiod.line import Bias, Clock, Value
from gpiod.line import Direction as LineDirection
from gpiod.line import Edge as LineEdge
from myrvm_core.errors import DeviceError, SettingsError

from myrvm_hardware.drivers import Direction, Edge, EndSwitch, Role, since_epoch_ns
from myrvm_hardware.settings import ActuatorSettings, SensorSettings

CONSUMER = "myrvm"
DIGITAL = {role.name.lower(): role for role in Role if role != Role.WEIGHT}
SWITCHES = {switch.name.lower(): switch for switch in EndSwitch if switch != EndSwitch.BETWEEN}
MOTOR = {"to_bin": Direction.TO_BIN, "to_customer": Direction.TO_CUSTOMER}


def parse_lines(
    parameter: str, lines: Iterable[str], allowed: Iterable[str], all_of_them: bool
) -> dict[str, int | str]:
    """`["entry=GPIO17", "drop=22"]` as a mapping of a purpose to a line's name or offset.

    Args:
        parameter: its name, for the message.
        lines: `purpose=line`, each purpose and each line once.
        allowed: the purposes.
        all_of_them: whether each purpose must be there.

    Raises:
        SettingsError: one line that says which entry is wrong and what is allowed.
    """
    allowed = tuple(allowed)
    parsed: dict[str, int | str] = {}
    for entry in lines:
        purpose, equals, line = (part.strip() for part in entry.partition("="))
        if not equals or not line:
            raise SettingsError(f"{parameter}: {entry!r} is not allowed: purpose=line, such as {allowed[0]}=GPIO17")
        if purpose not in allowed:
            raise SettingsError(f"{parameter}: {purpose!r} in {entry!r} is not known; allowed: {', '.join(allowed)}")
        if purpose in parsed:
            raise SettingsError(f"{parameter}: {purpose} is there twice ({parsed[purpose]} and {line})")
        identity = int(line) if line.isdecimal() else line
        if identity in parsed.values():
            raise SettingsError(f"{parameter}: line {line} is there twice")
        parsed[purpose] = identity
    missing = [purpose for purpose in allowed if purpose not in parsed]
    if missing and all_of_them:
        raise SettingsError(f"{parameter}: {', '.join(missing)} is missing")
    return parsed


class Lines:
    """Requested lines of one chip, by purpose."""

    def __init__(self, chip: str, lines: dict[str, int | str]) -> None:
        self._chip_path, self._lines = chip, lines
        self._request: gpiod.LineRequest | None = None
        self.offsets: dict[str, int] = {}

    def open(self, settings: dict[str, gpiod.LineSettings]) -> None:
        """Request every line with the settings of its purpose. Raises DeviceError."""
        self.close()
        try:
            with gpiod.Chip(self._chip_path) as chip:
                self.offsets = {purpose: self._offset(chip, purpose, line) for purpose, line in self._lines.items()}
                wanted: dict[Iterable[int | str] | int | str, gpiod.LineSettings | None] = {
                    self.offsets[purpose]: settings[purpose] for purpose in self._lines
                }
                if len(wanted) < len(self._lines):
                    raise DeviceError(f"GPIO chip {self._chip_path}: two of {self._lines} are the same line")
                self._request = chip.request_lines(wanted, consumer=CONSUMER)
        except (OSError, ValueError) as error:
            raise DeviceError(f"GPIO chip {self._chip_path} {self._explain(error)}") from error

    @property
    def request(self) -> gpiod.LineRequest:
        """The request. Raises DeviceError when it is not open."""
        if self._request is None:
            raise DeviceError(f"GPIO chip {self._chip_path} is not open")
        return self._request

    @property
    def is_open(self) -> bool:
        """Whether the lines are ours."""
        return self._request is not None

    def close(self) -> None:
        """Give the lines back."""
        request, self._request = self._request, None
        if request is not None:
            request.release()

    def _offset(self, chip: gpiod.Chip, purpose: str, line: int | str) -> int:
        try:
            return chip.line_offset_from_id(line)
        except (OSError, ValueError) as error:
            info = chip.get_info()
            raise DeviceError(
                f"GPIO chip {self._chip_path} ({info.label}, {info.num_lines} lines) has no line {line!r} for {purpose}"
            ) from error

    def _explain(self, error: OSError | ValueError) -> str:
        code = getattr(error, "errno", None)
        if code == errno.EBUSY:
            return f"is in use{self._users()}"
        if code in (errno.EACCES, errno.EPERM):
            return "may not be opened: add this user to the group gpio"
        if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTTY):
            return "is no GPIO chip" if Path(self._chip_path).exists() else "is not there"
        return f"cannot be used: {error}"

    def _users(self) -> str:
        with gpiod.Chip(self._chip_path) as chip:
            used = {purpose: chip.get_line_info(offset) for purpose, offset in self.offsets.items()}
        return "".join(
            f", line {self._lines[purpose]} ({purpose}) by {info.consumer or 'another process'}"
            for purpose, info in used.items()
            if info.used
        )


def _inputs(lines: Iterable[str], active_low: bool, edges: LineEdge) -> dict[str, gpiod.LineSettings]:
    settings = gpiod.LineSettings(
        direction=LineDirection.INPUT,
        bias=Bias.PULL_UP if active_low else Bias.PULL_DOWN,
        active_low=active_low,
        edge_detection=edges,
        event_clock=Clock.MONOTONIC,
    )
    return dict.fromkeys(lines, settings)


class GpiodSensors:
    """Digital sensors as input lines with edge events; there is no analogue sensor on a GPIO chip."""

    def __init__(self, device: str, settings: SensorSettings) -> None:
        lines = parse_lines("sensor.lines", settings.lines, DIGITAL, all_of_them=False)
        self._settings = _inputs(lines, settings.active_low, LineEdge.BOTH)
        self._device = device
        self._lines = Lines(device, lines)
        self._roles: dict[int, Role] = {}
        self._sequence = 0

    def open(self) -> None:
        """Request all lines. Raises DeviceError."""
        self._lines.open(self._settings)
        self._roles = {offset: DIGITAL[purpose] for purpose, offset in self._lines.offsets.items()}
        self._sequence = 0

    def levels(self) -> dict[Role, bool]:
        """The level of each line. Raises DeviceError."""
        request = self._lines.request
        offsets = list(self._roles)
        try:
            values = request.get_values(offsets)
        except OSError as error:
            raise DeviceError(f"GPIO chip {self._device} cannot be read: {error}") from error
        return {self._roles[offset]: value == Value.ACTIVE for offset, value in zip(offsets, values, strict=True)}

    def read_edges(self, timeout_s: float) -> list[Edge]:
        """Wait for edges. Raises DeviceError, also when the kernel's buffer has run over: read the levels again."""
        request = self._lines.request
        try:
            if not request.wait_edge_events(timedelta(seconds=timeout_s)):
                return []
            events = request.read_edge_events()
        except OSError as error:
            raise DeviceError(f"GPIO chip {self._device} cannot be read: {error}") from error
        lost = events[-1].global_seqno - self._sequence - len(events) if events else 0
        if events:
            self._sequence = events[-1].global_seqno
        if lost > 0:
            raise DeviceError(f"GPIO chip {self._device} has lost {lost} edges: a sensor chatters")
        return [
            Edge(
                self._roles[event.line_offset],
                event.event_type == gpiod.EdgeEvent.Type.RISING_EDGE,
                since_epoch_ns(event.timestamp_ns),
            )
            for event in events
        ]

    def measure(self) -> dict[Role, float]:
        """Nothing."""
        return {}

    def close(self) -> None:
        """Give the lines back."""
        self._lines.close()


class GpiodGate:
    """A gate motor with one line for each direction, and three end switches."""

    def __init__(self, device: str, settings: ActuatorSettings) -> None:
        motor = parse_lines("actuator.motor_lines", settings.motor_lines, MOTOR, all_of_them=True)
        switches = parse_lines("actuator.switch_lines", settings.switch_lines, SWITCHES, all_of_them=True)
        if shared := set(motor.values()) & set(switches.values()):
            raise SettingsError(f"actuator.switch_lines: line {shared.pop()} is one of motor_lines too")
        self._device = device
        self._motor = Lines(device, motor)
        self._motor_settings = dict.fromkeys(
            motor, gpiod.LineSettings(direction=LineDirection.OUTPUT, output_value=Value.INACTIVE)
        )
        self._switches = Lines(device, switches)
        self._switch_settings = _inputs(switches, settings.active_low, LineEdge.NONE)

    def open(self) -> None:
        """Request the motor's lines with the motor off, then the switches. Raises DeviceError."""
        self._motor.open(self._motor_settings)
        self._switches.open(self._switch_settings)

    def drive(self, direction: Direction) -> None:
        """Set both motor lines at once; never both active. Raises DeviceError."""
        request = self._motor.request
        values: dict[int | str, Value] = {
            self._motor.offsets[purpose]: Value.ACTIVE if direction == wanted else Value.INACTIVE
            for purpose, wanted in MOTOR.items()
        }
        try:
            request.set_values(values)
        except OSError as error:
            raise DeviceError(f"GPIO chip {self._device} does not switch the motor: {error}") from error

    def position(self) -> EndSwitch:
        """The end switch that is closed. Raises DeviceError: unreadable, or more than one."""
        request, names = self._switches.request, list(self._switches.offsets)
        try:
            values = request.get_values([self._switches.offsets[name] for name in names])
        except OSError as error:
            raise DeviceError(f"GPIO chip {self._device} cannot be read: {error}") from error
        closed = [name for name, value in zip(names, values, strict=True) if value == Value.ACTIVE]
        if len(closed) > 1:
            raise DeviceError(f"end switches {' and '.join(closed)} are closed at once: check their wiring")
        return SWITCHES[closed[0]] if closed else EndSwitch.BETWEEN

    def close(self) -> None:
        """Motor off, then give all lines back."""
        try:
            if self._motor.is_open:
                self.drive(Direction.OFF)
        finally:
            self._motor.close()
            self._switches.close()
