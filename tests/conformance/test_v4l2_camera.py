"""The V4L2 camera driver and the capture thread on a camera of the kernel's own: `vivid`, which can be told to fail.

`make device-vm` runs this in its guest; elsewhere there is no such camera and the tests are skipped. Emulated Python is
slow: limits are multiplied by MYRVM_TIME_FACTOR.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from myrvm_core.errors import DeviceError
from myrvm_hardware.camera_drivers import V4l2Camera
from myrvm_hardware.capture import Capture
from myrvm_hardware.drivers import Frame
from myrvm_hardware.settings import CameraSettings

DRIVER = Path("/sys/bus/platform/drivers/vivid")
CAMERA = Path("/dev/v4l/by-path/platform-vivid.0-video-index0")  # stays the same when the number changes
# Of vivid's menus `test_pattern` and `osd_text_mode`; its text counts the pictures.
BARS, BLACK, RED = 0, 5, 7
MOVING, STILL = 0, 2
SLOW = float(os.environ.get("MYRVM_TIME_FACTOR", "1"))
LIMIT_S = 10.0 * SLOW

pytestmark = pytest.mark.skipif(
    not DRIVER.exists() or os.geteuid() != 0, reason="no vivid camera here: make device-vm runs this in its guest"
)


def control(**values: int) -> None:
    """Set controls of the simulated camera."""
    wanted = ",".join(f"{name}={value}" for name, value in values.items())
    subprocess.run(["v4l2-ctl", "-d", str(CAMERA), f"--set-ctrl={wanted}"], check=True, timeout=LIMIT_S)


def wait(condition: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s, f"not within {LIMIT_S:.0f} s: {what}"
        time.sleep(0.05)


def plug(command: str) -> None:
    """`bind` or `unbind` the driver: what a plug does to a USB camera."""
    (DRIVER / command).write_text("vivid.0")


@pytest.fixture(autouse=True)
def vivid() -> None:
    """The camera plugged in, with a moving test picture."""
    if not (DRIVER / "vivid.0").exists():
        plug("bind")
    wait(CAMERA.exists, "the camera is there")
    control(test_pattern=BARS, osd_text_mode=MOVING, percentage_of_dropped_buffers=0)


@pytest.fixture
def camera() -> Iterator[Callable[..., V4l2Camera]]:
    """Open the production driver with these settings."""
    opened: list[V4l2Camera] = []

    def open_camera(device: Path = CAMERA, **settings: Any) -> V4l2Camera:
        one = V4l2Camera(str(device), CameraSettings(**{"pixel_format": "YUYV", **settings}))
        opened.append(one)
        one.open()
        return one

    yield open_camera
    for one in opened:
        one.close()


class Watched:
    """The production capture thread on this camera; keeps what it hands over."""

    def __init__(self, **settings: Any) -> None:
        self.frames: list[Frame] = []
        wanted = CameraSettings(
            **{"pixel_format": "YUYV", "reopen_first_s": 0.05, "reopen_longest_s": 0.2, "identical_frames": 5,
               "black_frames": 5, **settings}
        )  # fmt: skip
        log = structlog.get_logger()
        self.capture = Capture(V4l2Camera(str(CAMERA), wanted), wanted, self._take, lambda: True, log)

    def _take(self) -> None:
        frame = self.capture.take()
        assert frame is not None
        self.frames.append(frame)

    def more(self, count: int = 3) -> None:
        """Wait for so many more pictures."""
        seen = len(self.frames)
        wait(lambda: len(self.frames) >= seen + count, f"{count} more pictures; {self.capture.thread.problem}")

    def fails(self, why: str) -> None:
        """Wait until the thread says `why`."""
        wait(lambda: why in self.capture.thread.problem, f"{why!r}, not {self.capture.thread.problem!r}")


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """Start the capture thread with these settings."""
    started: list[Watched] = []

    def start(**settings: Any) -> Watched:
        one = Watched(**settings)
        started.append(one)
        one.capture.start()
        return one

    yield start
    for one in started:
        one.capture.thread.stop(LIMIT_S)


FORMATS = ["YUYV", "UYVY", "BGR3", "RGB3", "AR24", "XR24", "NV12", "NV21", "YU12", "YV12"]


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_red_is_red_in_every_format(camera: Callable[..., V4l2Camera], pixel_format: str) -> None:
    control(test_pattern=RED, osd_text_mode=STILL)
    image = camera(pixel_format=pixel_format, width_px=320, height_px=180).read().image
    assert (image.shape, image.dtype) == ((180, 320, 3), np.uint8)
    blue, green, red = image.mean((0, 1))
    assert max(blue, green) < 8 < 247 < red


@pytest.mark.parametrize(("width_px", "height_px"), [(320, 180), (640, 480), (1280, 720)])
def test_the_size_that_was_asked_for(camera: Callable[..., V4l2Camera], width_px: int, height_px: int) -> None:
    assert camera(width_px=width_px, height_px=height_px).read().image.shape == (height_px, width_px, 3)


def test_a_size_or_format_that_it_has_not_is_replaced_and_said(
    camera: Callable[..., V4l2Camera], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        image = camera(pixel_format="MJPG", width_px=333, height_px=222).read().image
    assert image.shape == (180, 320, 3)
    assert "gives 320x180" in caplog.text
    assert "asked for was 333x222 MJPG" in caplog.text


@pytest.mark.parametrize("pixel_format", ["NV24", "RGBP", "HSV3"])
def test_a_format_that_is_no_picture_here_is_refused(camera: Callable[..., V4l2Camera], pixel_format: str) -> None:
    with pytest.raises(DeviceError, match=f"gives '{pixel_format}'; allowed pixel_format: MJPG"):
        camera(pixel_format=pixel_format)
    assert camera().read().image.shape == (480, 640, 3)  # the device was let go


def test_stamps_are_the_kernels_also_of_a_picture_that_has_waited(camera: Callable[..., V4l2Camera]) -> None:
    driver = camera(width_px=320, height_px=180, frame_rate_hz=30.0)
    before_ns = time.time_ns()
    stamps_ns = [driver.read().stamp_ns for _ in range(5)]
    assert before_ns < stamps_ns[0] < stamps_ns[-1] < time.time_ns()
    assert stamps_ns == sorted(set(stamps_ns))
    time.sleep(2.0)  # the kernel's buffers fill, and what waits in them becomes no newer
    asked_ns = time.time_ns()
    assert driver.read().stamp_ns < asked_ns - 1_000_000_000
    wait(lambda: driver.read().stamp_ns > asked_ns, "a new picture")


@pytest.mark.parametrize("frame_rate_hz", [5.0, 15.0, 30.0])
def test_the_frame_rate_that_was_asked_for(camera: Callable[..., V4l2Camera], frame_rate_hz: float) -> None:
    driver = camera(width_px=320, height_px=180, frame_rate_hz=frame_rate_hz)
    stamps_ns = [driver.read().stamp_ns for _ in range(12)]
    period_ns = float(np.median(np.diff(stamps_ns)))
    # An emulated machine may miss a picture, but the camera's clock makes none too many.
    assert period_ns > 0.8e9 / frame_rate_hz


def test_a_frame_rate_that_it_has_not_is_kept_by_the_capture_thread(watch: Callable[..., Watched]) -> None:
    watched = watch(width_px=320, height_px=180, frame_rate_hz=7.0)  # the camera gives 10
    watched.more(15)
    stamps_ns = [frame.stamp_ns for frame in watched.frames]
    assert (stamps_ns[-1] - stamps_ns[0]) / (len(stamps_ns) - 1) > 0.9e9 / 7.0


def test_one_program_has_it(camera: Callable[..., V4l2Camera]) -> None:
    first = camera()
    first.read()
    with pytest.raises(DeviceError, match="does not open"):
        camera(width_px=320, height_px=180)
    assert first.read().image.shape == (480, 640, 3)
    first.close()
    assert camera(width_px=320, height_px=180).read().image.shape == (180, 320, 3)


def test_unplugged_and_plugged_in_again(camera: Callable[..., V4l2Camera]) -> None:
    driver = camera()
    driver.read()
    plug("unbind")
    with contextlib.suppress(DeviceError):
        driver.read()  # what is in the buffer may still come
    with pytest.raises(DeviceError, match="gives no picture"):
        driver.read()
    with pytest.raises(DeviceError, match="is not there"):
        driver.open()
    plug("bind")
    wait(CAMERA.exists, "the camera is back")
    driver.open()
    assert driver.read().image.shape == (480, 640, 3)


def test_the_capture_thread_opens_it_again(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.more()
    plug("unbind")
    watched.fails("is not there")
    plug("bind")
    watched.more()
    assert watched.capture.thread.opened == 2


def test_no_pictures_any_more(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.more()
    control(percentage_of_dropped_buffers=100)
    watched.fails("gives no picture")
    control(percentage_of_dropped_buffers=0)
    watched.more()


@pytest.mark.parametrize(("pattern", "why"), [(BLACK, "black pictures"), (BARS, "the same picture")])
def test_a_picture_that_hangs(watch: Callable[..., Watched], pattern: int, why: str) -> None:
    watched = watch()
    watched.more()
    control(test_pattern=pattern, osd_text_mode=STILL)
    watched.fails(why)
    control(test_pattern=BARS, osd_text_mode=MOVING)
    watched.more()
