"""The cabinet's camera driver against a real cabinet process, found by name as the camera node finds it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import CAMERA_DRIVERS, CameraDriver, find_driver
from myrvm_hardware.settings import CameraSettings
from myrvm_sim.cabinet_client import CabinetClient, running
from myrvm_sim.physics import Kind


def driver(path: Path) -> CameraDriver:
    return find_driver(CAMERA_DRIVERS, "cabinet")(str(path), CameraSettings(frame_rate_hz=100.0))


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with running(tmp_path / "cabinet", "--seed", "1"):
        yield tmp_path / "cabinet"


def test_the_camera_sees_the_item(path: Path) -> None:
    camera = driver(path)
    camera.open()
    empty = camera.read()
    assert empty.image.shape == (480, 640, 3)
    assert empty.image.dtype == np.uint8
    with CabinetClient(path) as people:
        people.insert(Kind.NOT_EMPTY)
    frame = camera.read()
    assert frame.stamp_ns > empty.stamp_ns, "a frame tells of its own time"
    assert np.abs(frame.image.astype(int) - empty.image.astype(int)).mean() > 3.0, "the item is in the picture"
    camera.close()
    camera.close()


def test_unplugging_the_camera(path: Path) -> None:
    camera = driver(path)
    camera.open()
    with CabinetClient(path) as people:
        people.set_camera("unplugged")
        with pytest.raises(DeviceError, match="unplugged"):
            camera.read()
        camera.close()
        with pytest.raises(DeviceError, match="unplugged"):
            camera.open()
        people.set_camera("live")
        camera.open()
        assert camera.read().image.mean() > 5
    camera.close()


def test_losing_the_cabinet_and_opening_again(tmp_path: Path) -> None:
    camera = driver(tmp_path / "cabinet")
    for _ in range(2):
        with running(tmp_path / "cabinet"):
            camera.open()
        with pytest.raises(DeviceError, match="is lost"):
            camera.read()
        with pytest.raises(DeviceError, match="not reached"):
            camera.open()
