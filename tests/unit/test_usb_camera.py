"""A USB camera that hangs is taken off its bus and put back: on a tree of files that stands in for /sys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import structlog
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import Frame
from myrvm_hardware.usb_camera import UsbCamera, reauthorise, usb_device


@pytest.fixture
def usb(tmp_path: Path) -> Path:
    """The folder of a camera at port 2 of bus 1, /dev/video0."""
    device = tmp_path / "devices/usb1/1-2"
    (device / "1-2:1.0/video4linux/video0").mkdir(parents=True)
    for name, text in (("authorized", "1\n"), ("devnum", "5\n"), ("product", "Camera\n")):
        (device / name).write_text(text)
    link = tmp_path / "class/video4linux/video0"
    link.mkdir(parents=True)
    (link / "device").symlink_to(device / "1-2:1.0")
    return device


class Driver:
    """A camera that hangs until its device has been written to; or for ever."""

    def __init__(self, usb: Path | None = None) -> None:
        self.usb, self.works, self.opens = usb, False, 0

    def open(self) -> None:
        self.opens += 1
        if self.usb is not None and (self.usb / "authorized").read_text() == "1":
            self.works = True

    def read(self) -> Frame:
        if not self.works:
            raise DeviceError("camera gives no picture")
        return Frame(np.zeros((2, 2, 3), np.uint8), 0)

    def close(self) -> None:
        pass


def made(driver: Driver, tmp_path: Path, reset_after: int) -> UsbCamera:
    return UsbCamera(driver, "/dev/video0", reset_after, structlog.get_logger(), tmp_path, off_s=0.0)


def tries(camera: UsbCamera, count: int) -> int:
    """Opens and reads until there is a picture; how many tries that took, `count` at most."""
    for number in range(1, count + 1):
        camera.open()
        try:
            camera.read()
            return number
        except DeviceError:
            camera.close()
    return count + 1


def test_a_hanging_camera_works_after_so_many_failures(usb: Path, tmp_path: Path):
    camera = made(Driver(usb), tmp_path, 3)
    assert tries(camera, 9) == 4
    assert camera.values() == {"usb": "1-2", "usb_reconnections": 0, "usb_resets": 1}


def test_it_is_off_by_default_and_repeated_where_it_does_not_help(usb: Path, tmp_path: Path):
    assert tries(made(Driver(usb), tmp_path, 0), 9) == 10
    assert (usb / "authorized").read_text() == "1\n"
    camera = made(Driver(), tmp_path, 3)
    assert tries(camera, 9) == 10
    assert camera.resets == 2


def test_a_picture_ends_the_count(usb: Path, tmp_path: Path):
    driver = Driver()
    camera = made(driver, tmp_path, 3)
    for _ in range(5):
        tries(camera, 2)
        driver.works = True
        camera.open()
        camera.read()
        driver.works = False
    assert camera.resets == 0


def test_a_camera_that_comes_back_by_itself_is_counted(usb: Path, tmp_path: Path):
    camera = made(Driver(), tmp_path, 0)
    for number in (5, 5, 6, 9):
        (usb / "devnum").write_text(f"{number}\n")
        camera.open()
    assert camera.values()["usb_reconnections"] == 2


def test_a_camera_off_the_bus_is_still_known(usb: Path, tmp_path: Path):
    camera = made(Driver(usb), tmp_path, 1)
    tries(camera, 1)
    (tmp_path / "class/video4linux/video0/device").unlink()
    assert tries(camera, 1) == 1


def test_not_permitted_or_gone_is_one_clear_line(usb: Path, tmp_path: Path):
    (usb / "authorized").unlink()
    (usb / "authorized").mkdir()
    with pytest.raises(DeviceError, match="USB device 1-2 cannot be authorised anew: "):
        reauthorise(usb, 0.0)
    camera = made(Driver(), tmp_path, 1)
    assert tries(camera, 3) == 4  # the camera's own error is the one that counts


@pytest.mark.parametrize("device", ["0", "/dev/video0"])
def test_the_device_is_found_by_number_and_path(usb: Path, tmp_path: Path, device: str):
    assert usb_device(tmp_path, device) == usb


@pytest.mark.parametrize("device", ["7", "/dev/video7", "rtsp://camera/stream", ""])
def test_what_is_no_usb_camera_is_left_alone(usb: Path, tmp_path: Path, device: str):
    assert usb_device(tmp_path, device) is None
    camera = UsbCamera(Driver(), device, 1, structlog.get_logger(), tmp_path)
    assert tries(camera, 3) == 4
    assert camera.values() == {}
