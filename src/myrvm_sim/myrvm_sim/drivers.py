"""The camera of the simulated cabinet, under the interface of `myrvm_hardware.drivers`. Registered in `setup.cfg`.

`device` is the path of the cabinet's socket, or empty for MYRVM_CABINET. Everything else of the cabinet is met at its
GPIO chip and in its piece of `/sys`, by the production drivers.
"""

from __future__ import annotations

import numpy as np
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import Frame
from myrvm_hardware.kernel_clock import since_epoch_ns
from myrvm_hardware.settings import CameraSettings

from myrvm_sim import protocol
from myrvm_sim.cabinet_client import CabinetClient, socket_path


class CabinetCamera:
    """The camera above the chamber, 640 x 480."""

    def __init__(self, device: str, settings: CameraSettings) -> None:
        self._rate_hz = float(settings.frame_rate_hz)
        self._cabinet = CabinetClient(socket_path(device))

    def open(self) -> None:
        """Connect, and see that the camera is plugged in. Raises DeviceError."""
        self._cabinet.open()
        self.read()

    def read(self) -> Frame:
        """The next picture. Raises DeviceError."""
        answer, payload = self._cabinet.ask(protocol.Picture(rate_hz=self._rate_hz), 1.0 / self._rate_hz)
        try:
            image = np.frombuffer(payload, np.uint8).reshape(answer["height"], answer["width"], 3)
        except (KeyError, ValueError) as error:
            raise DeviceError(f"cabinet sends no picture: {error!r}") from error
        return Frame(image, since_epoch_ns(answer["at_ns"]))

    def close(self) -> None:
        """Disconnect."""
        self._cabinet.close()
