"""A USB camera on its bus: how often it came and went, and taking it off and back on where it hangs. No ROS here.

The kernel's `authorized` attribute takes a device off the bus and puts it back without a hand at the plug
(Documentation/usb/authorization.rst). Writing it needs root or a udev rule, see docs/operations.md. Tried with trees of
files, not with a camera.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from myrvm_core.errors import DeviceError
from myrvm_core.kernel_files import number, text

from myrvm_hardware.drivers import CameraDriver, Frame

OFF_S = 0.5  # the bus needs a moment to let go of the device


def usb_device(sysfs: Path, device: str) -> Path | None:
    """The folder in `sysfs` of the USB device behind `/dev/videoN`, `N` or a link to one; None where it is none."""
    name = f"video{device}" if device.isdecimal() else Path(device).resolve().name
    folder = (sysfs / "class/video4linux" / name / "device").resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / "authorized").exists() and (candidate / "devnum").exists():
            return candidate
    return None


def reauthorise(device: Path, off_s: float = OFF_S) -> None:
    """Take a USB device off its bus and put it back.

    Raises:
        DeviceError: not permitted, or the device has gone.
    """
    try:
        (device / "authorized").write_text("0")
        time.sleep(off_s)
        (device / "authorized").write_text("1")
    except OSError as error:
        raise DeviceError(f"USB device {device.name} cannot be authorised anew: {error.strerror}") from error


class UsbCamera:
    """A camera driver that authorises its USB device anew after `reset_after` failures in a row (0: never).

    Args:
        driver: the camera's own.
        device: as the driver's setting names it.
        reset_after: failed openings or readings in a row.
        log: the node's logger.
        sysfs: `/sys`, or a tree that stands in for it.
    """

    def __init__(
        self, driver: CameraDriver, device: str, reset_after: int, log: Any, sysfs: Path = Path("/sys"),
        off_s: float = OFF_S,
    ) -> None:  # fmt: skip
        self._driver, self._device, self._reset_after, self._log = driver, device, reset_after, log
        self._sysfs, self._off_s = sysfs, off_s
        self._usb: Path | None = None
        self._number: int | None = None
        self._failures = 0
        self.reconnections = self.resets = 0

    def open(self) -> None:
        """Open; raises DeviceError. Every `reset_after`th failure in a row authorises the device anew before."""
        self._look()
        if self._reset_after and self._failures and self._failures % self._reset_after == 0 and self._usb is not None:
            self._reset(self._usb)
        try:
            self._driver.open()
        except DeviceError:
            self._failures += 1
            raise

    def read(self) -> Frame:
        """The next frame; raises DeviceError."""
        try:
            frame = self._driver.read()
        except DeviceError:
            self._failures += 1
            raise
        self._failures = 0
        return frame

    def close(self) -> None:
        """Close; harmless when not open."""
        self._driver.close()

    def values(self) -> dict[str, float | int | str]:
        """Figures for the node's heartbeat; empty where no USB device was ever seen."""
        if self._usb is None:
            return {}
        return {"usb": self._usb.name, "usb_reconnections": self.reconnections, "usb_resets": self.resets}

    def _look(self) -> None:
        # The folder is remembered: a device that is off the bus has no name under video4linux any more.
        self._usb = usb_device(self._sysfs, self._device) or self._usb
        if self._usb is None or (now := number(self._usb / "devnum")) is None:
            return
        if self._number is not None and now != self._number:  # the bus numbers each arrival anew
            self.reconnections += 1
            self._log.warning("USB camera came back", usb=self._usb.name, product=text(self._usb / "product"))
        self._number = now

    def _reset(self, usb: Path) -> None:
        self.resets += 1
        self._log.warning("USB camera is authorised anew", usb=usb.name, failures=self._failures)
        try:
            reauthorise(usb, self._off_s)
        except DeviceError as error:
            self._log.error("USB camera not reset", error=str(error))
