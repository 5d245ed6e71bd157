"""Drivers of the simulated cabinet, under the interfaces of `myrvm_hardware.drivers`. Registered in `setup.cfg`.

`device` is the path of the cabinet's socket, or empty for MYRVM_CABINET.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import Direction, Edge, EndSwitch, Frame, Role
from myrvm_hardware.kernel_clock import since_epoch_ns

from myrvm_sim import protocol
from myrvm_sim.cabinet_client import CabinetClient, socket_path


class _Driver:
    """Connects and disconnects."""

    def __init__(self, device: str, settings: Any) -> None:
        self._settings = settings
        self._cabinet = CabinetClient(socket_path(device))

    def open(self) -> None:
        """Connect. Raises DeviceError."""
        self._cabinet.open()

    def close(self) -> None:
        """Disconnect."""
        self._cabinet.close()


class CabinetCamera(_Driver):
    """The camera above the chamber, 640 x 480."""

    def open(self) -> None:
        """Connect, and see that the camera is plugged in. Raises DeviceError."""
        super().open()
        self.read()

    def read(self) -> Frame:
        """The next picture. Raises DeviceError."""
        rate_hz = float(self._settings.frame_rate_hz)
        request = protocol.Picture(rate_hz=rate_hz)
        answer, payload = self._cabinet.ask(request, 1.0 / rate_hz)
        try:
            image = np.frombuffer(payload, np.uint8).reshape(answer["height"], answer["width"], 3)
        except (KeyError, ValueError) as error:
            raise DeviceError(f"cabinet sends no picture: {error!r}") from error
        return Frame(image, since_epoch_ns(answer["at_ns"]))


class CabinetSensors(_Driver):
    """Entry, drop, door, bin-full, hand and emergency sensors, and the scale."""

    debounced: frozenset[Role] = frozenset()

    def levels(self) -> dict[Role, bool]:
        """Present levels. Raises DeviceError."""
        answer, _ = self._cabinet.ask(protocol.Levels())
        return {Role[name]: active for name, active in answer["levels"].items()}

    def read_edges(self, timeout_s: float) -> tuple[list[Edge], int]:
        """Edges since the last call. Raises DeviceError."""
        answer, _ = self._cabinet.ask(protocol.Edges(timeout_s=timeout_s), timeout_s)
        return [Edge(Role[edge["role"]], edge["active"], edge["at_ns"]) for edge in answer["edges"]], 0

    def listen(self, roles: Any) -> None:
        """All are always heard."""

    def measure(self) -> dict[Role, float]:
        """What the scale shows, kg. Raises DeviceError."""
        answer, _ = self._cabinet.ask(protocol.Measure())
        return {Role[name]: value for name, value in answer["values"].items()}


class CabinetGate(_Driver):
    """The flap's motor and end switches."""

    def open(self) -> None:
        """Connect, motor off. Raises DeviceError."""
        super().open()
        self.drive(Direction.OFF)

    def drive(self, direction: Direction) -> None:
        """Switch the motor. Raises DeviceError."""
        self._cabinet.ask(protocol.Drive.model_validate({"direction": direction.name}))

    def position(self) -> EndSwitch:
        """Read the end switches. Raises DeviceError."""
        return EndSwitch[self._cabinet.ask(protocol.Position())[0]["position"]]
