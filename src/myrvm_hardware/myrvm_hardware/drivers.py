"""What a driver is: three small interfaces, and the one place where a driver is found by its name.

A driver is a class that another package may bring: it registers itself under an entry-point group below, in its
`setup.cfg`, and a parameter of the node names it. It is built as `Driver(device, settings)` when the node is configured
(raise SettingsError for what can never work); `device` says where the hardware is, in the driver's own words, and
`settings` is the node's (an analogue one gets its group of them). Opening comes later and may be tried again and again.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np
from myrvm_core.errors import SettingsError
from numpy.typing import NDArray

CAMERA_DRIVERS = "myrvm.camera_drivers"
SENSOR_DRIVERS = "myrvm.sensor_drivers"
GATE_DRIVERS = "myrvm.gate_drivers"
ANALOG_DRIVERS = "myrvm.analog_drivers"


@dataclass(frozen=True)
class Frame:
    """One picture: `image` is height x width x 3, uint8, BGR; `stamp_ns` is the capture time, ns since the epoch."""

    image: NDArray[np.uint8]
    stamp_ns: int


class CameraDriver(Protocol):
    """One camera. Used by one thread, the capture thread."""

    def open(self) -> None:
        """Open the device. Raises DeviceError."""

    def read(self) -> Frame:
        """Wait for the next picture, at most a second. Raises DeviceError when none comes or the device is gone."""
        ...

    def close(self) -> None:
        """Release the device; harmless when it is not open."""


class Role(IntEnum):
    """What a sensor watches. Numbers equal the constants of `myrvm_interfaces/msg/SensorReading`."""

    ENTRY = 1
    DROP = 2
    DOOR = 3
    BIN_FULL = 4
    WEIGHT = 5
    HAND = 6
    EMERGENCY = 7
    POWER_FAIL = 8
    BIN_LEVEL = 9
    MOTOR_CURRENT = 10
    BATTERY = 11
    ON_BATTERY = 12
    BATTERY_LOW = 13


ANALOG = (Role.WEIGHT, Role.BIN_LEVEL, Role.MOTOR_CURRENT, Role.BATTERY)
DIGITAL = tuple(role for role in Role if role not in ANALOG)
DIGITAL_BY_NAME = {role.name.lower(): role for role in DIGITAL}  # as settings name them


@dataclass(frozen=True)
class Edge:
    """A digital sensor changed to `active` at `monotonic_ns`, kernel time (CLOCK_MONOTONIC)."""

    role: Role
    active: bool
    monotonic_ns: int


class SensorDriver(Protocol):
    """The digital sensors of the cabinet. Used by one thread."""

    debounced: frozenset[Role]  # by the hardware, known when open; the others are debounced here

    def open(self) -> None:
        """Claim the inputs. Raises DeviceError."""

    def levels(self) -> dict[Role, bool]:
        """The present level of each digital sensor. Raises DeviceError."""
        ...

    def read_edges(self, timeout_s: float) -> tuple[list[Edge], int]:
        """Wait for edges, at most `timeout_s`: the edges, and how many were lost before them. Raises DeviceError."""
        ...

    def listen(self, roles: Set[Role]) -> None:
        """Report edges of these sensors only, until told otherwise or opened again. Raises DeviceError."""

    def close(self) -> None:
        """Release the inputs; harmless when not open."""


class AnalogDriver(Protocol):
    """One analogue source, built as `Driver(device, settings, role)`. Used by a thread of its own."""

    def open(self) -> None:
        """Find the device. Raises DeviceError."""

    def read(self) -> dict[Role, float]:
        """A sample; a digital role is 0 or 1. May take a second. Raises DeviceError.

        The sample of `role` is raw: the calibration in the settings is applied to it. Others are in SI units.
        """
        ...

    def close(self) -> None:
        """Release the device; harmless when not open."""


class Direction(IntEnum):
    """What the gate's motor does."""

    OFF = 0
    TO_BIN = 1
    TO_CUSTOMER = 2


class EndSwitch(IntEnum):
    """The end switch that is closed; BETWEEN: none, IMPOSSIBLE: more than one.

    Numbers equal `GateState.POSITION_*` but for the last two.
    """

    CLOSED = 1
    BIN = 2
    CUSTOMER = 3
    BETWEEN = 4
    IMPOSSIBLE = 5


BELT = "belt"  # the conveyor among the motors; it runs TO_BIN


class GateDriver(Protocol):
    """Motors and end switches of all gates, by gate, the belt (`BELT`) and the interlocks. `off`: from any thread.

    While it is open, one thread reads the interlocks (`read_edges`); everything else is called by one thread at a time.
    Built as `Driver(device, settings)`; `interlocks` names the roles from then on.
    """

    interlocks: tuple[Role, ...]

    def open(self) -> None:
        """Claim the lines with all motors off. Raises DeviceError."""

    def drive(self, directions: Mapping[str, Direction]) -> None:
        """Switch the motors, all at once. Raises DeviceError."""

    def keep(self) -> bool:
        """While a motor runs, each few milliseconds: whether it still does. Raises DeviceError."""
        ...

    def check(self) -> None:
        """Now and then while none does. Raises DeviceError when something that a motor needs is not there."""

    def off(self) -> None:
        """Every motor off at once, whatever other threads do. Raises DeviceError."""

    def positions(self) -> dict[str, EndSwitch]:
        """Read the end switches. Raises DeviceError."""
        ...

    def levels(self) -> dict[Role, bool]:
        """Read the interlocks. Raises DeviceError."""
        ...

    def read_edges(self, timeout_s: float) -> tuple[list[Edge], int]:
        """Wait for edges of interlocks: the edges, and how many were lost before them. Raises DeviceError."""
        ...

    def close(self) -> None:
        """Motors off, release the lines; harmless when not open."""


def find_driver(group: str, name: str) -> Any:
    """The driver class registered as `name` in `group`.

    Raises:
        SettingsError: there is none; says which there are.
    """
    known = {entry.name: entry for entry in entry_points(group=group)}
    if name not in known:
        raise SettingsError(f"driver = {name!r} is not installed in {group}; allowed: {', '.join(sorted(known))}")
    return known[name].load()
