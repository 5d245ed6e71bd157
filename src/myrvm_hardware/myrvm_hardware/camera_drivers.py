"""Camera drivers: V4L2, CSI through GStreamer, RTSP, a video file, a folder of images. Registered in `setup.cfg`.

Each takes `(device, CameraSettings)`. A frame is stamped when the kernel captured it where the driver tells (V4L2),
when it was grabbed otherwise; decoding comes after the stamp.
"""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np
from myrvm_core.environment import environment
from myrvm_core.errors import DeviceError
from numpy.typing import NDArray

from myrvm_hardware.drivers import Frame
from myrvm_hardware.kernel_clock import since_epoch_ns
from myrvm_hardware.settings import CameraSettings

WAIT_MS = 1000  # `read` waits a second at most
OPEN_MS = 3000
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
# What OpenCV turns into colours; others it hands on as they are, which is no picture.
PIXEL_FORMATS = (
    "MJPG", "JPEG", "YUYV", "UYVY", "BGR3", "RGB3", "AR24", "XR24", "NV12", "NV21", "YU12", "YV12", "GREY"
)  # fmt: skip
LOG = logging.getLogger(__name__)


class OpenCvCamera:
    """What the cameras behind `cv2.VideoCapture` share."""

    def __init__(self, device: str, settings: CameraSettings) -> None:
        self._device, self._settings = device, settings
        self._video: cv2.VideoCapture | None = None

    def open(self) -> None:
        """Open. Raises DeviceError."""
        self.close()
        video = self._opened()
        if not video.isOpened():
            video.release()
            raise DeviceError(f"camera {self._device} does not open")
        self._video = video

    def read(self) -> Frame:
        """Grab, stamp, decode. Raises DeviceError."""
        if self._video is None or not self._video.grab():
            raise DeviceError(f"camera {self._device} gives no picture")
        stamp_ns = self._stamp_ns(self._video)
        try:
            decoded, image = self._video.retrieve()
        except cv2.error as error:
            raise DeviceError(f"camera {self._device} gives a picture that cannot be decoded: {error.err}") from error
        if not decoded:
            raise DeviceError(f"camera {self._device} gives a picture that cannot be decoded")
        return Frame(_uint8(image), stamp_ns)

    def close(self) -> None:
        """Release."""
        if self._video is not None:
            self._video.release()
            self._video = None

    def _opened(self) -> cv2.VideoCapture:
        raise NotImplementedError

    def _stamp_ns(self, video: cv2.VideoCapture) -> int:
        return time.time_ns()


class V4l2Camera(OpenCvCamera):
    """A USB or other V4L2 camera; `device` is `/dev/video0` or a link in `/dev/v4l/by-id`."""

    _opened_ns = 0  # monotonic

    def _opened(self) -> cv2.VideoCapture:
        path = Path(self._device)
        if not path.exists():
            raise DeviceError(f"camera {self._device} is not there")
        if not os.access(path, os.R_OK | os.W_OK):
            raise DeviceError(f"camera {self._device} may not be opened: add this user to the group {path.group()}")
        # OpenCV waits 10 s for a frame otherwise; it reads this when it waits for the first time.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(WAIT_MS // 1000))
        self._opened_ns = time.monotonic_ns()
        video = cv2.VideoCapture(str(path.resolve()), cv2.CAP_V4L2)
        if self._settings.pixel_format:
            video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*self._settings.pixel_format))
        video.set(cv2.CAP_PROP_FRAME_WIDTH, self._settings.width_px)
        video.set(cv2.CAP_PROP_FRAME_HEIGHT, self._settings.height_px)
        video.set(cv2.CAP_PROP_FPS, self._settings.frame_rate_hz)
        video.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if video.isOpened():
            self._check_format(video)
        return video

    def _check_format(self, video: cv2.VideoCapture) -> None:
        """See what the camera gives: another size or format is a warning, one that is no picture is refused."""
        given = (int(video.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1")
        if given not in PIXEL_FORMATS:
            video.release()
            raise DeviceError(
                f"camera {self._device} gives {given!r}; allowed pixel_format: {', '.join(PIXEL_FORMATS)}"
            )
        size = f"{video.get(cv2.CAP_PROP_FRAME_WIDTH):.0f}x{video.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}"
        asked = f"{self._settings.width_px}x{self._settings.height_px} {self._settings.pixel_format or given}"
        if asked != f"{size} {given}":
            LOG.warning("camera %s gives %s %s, asked for was %s", self._device, size, given, asked)

    def _stamp_ns(self, video: cv2.VideoCapture) -> int:
        # The V4L2 back end gives the buffer's own stamp here, CLOCK_MONOTONIC with nearly all drivers; a picture that
        # has waited keeps its time.
        stamp_ns = round(video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        now_ns = time.monotonic_ns()
        return since_epoch_ns(stamp_ns if self._opened_ns <= stamp_ns <= now_ns else now_ns)


class CsiCamera(OpenCvCamera):
    """A CSI camera of a Jetson through GStreamer; `device` is the sensor's number, or a whole pipeline."""

    def _opened(self) -> cv2.VideoCapture:
        if not any("GStreamer" in line and "YES" in line for line in cv2.getBuildInformation().splitlines()):
            raise DeviceError(
                f"OpenCV {cv2.__version__} has no GStreamer, which driver csi needs: use the system's python3-opencv"
            )
        return cv2.VideoCapture(csi_pipeline(self._device, self._settings), cv2.CAP_GSTREAMER)


def csi_pipeline(device: str, settings: CameraSettings) -> str:
    """The GStreamer pipeline of a CSI sensor: argus, scaled and converted by the VIC, newest frame only.

    Source: NVIDIA, "Accelerated GStreamer", Jetson Linux Developer Guide, `nvarguscamerasrc` and `nvvidconv`.
    """
    if "!" in device:
        return device
    return (
        f"nvarguscamerasrc sensor-id={device} ! "
        f"video/x-raw(memory:NVMM), format=NV12, framerate={max(1, round(settings.frame_rate_hz))}/1 ! nvvidconv ! "
        f"video/x-raw, width={settings.width_px}, height={settings.height_px}, format=BGRx ! videoconvert ! "
        "video/x-raw, format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


class RtspCamera(OpenCvCamera):
    """A network camera; `device` is its rtsp:// URL. `${NAME}` in it is taken from the environment or `.env`."""

    def __init__(self, device: str, settings: CameraSettings) -> None:
        # Whoever may see parameters and logs must not see the camera's password.
        super().__init__(re.sub("//[^/@]*@", "//", device), settings)
        self._url = Template(device).safe_substitute(environment())

    def _opened(self) -> cv2.VideoCapture:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, WAIT_MS]
        return cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)


class FileCamera(OpenCvCamera):
    """A video file, played at its own rate; from the start again at its end if `loop` is set."""

    def __init__(self, device: str, settings: CameraSettings) -> None:
        super().__init__(device, settings)
        self._ended = False
        self._pace = Metronome(settings.frame_rate_hz)

    def read(self) -> Frame:
        """The next frame, when it is due."""
        self._pace.wait()
        try:
            return super().read()
        except DeviceError:
            if not self._settings.loop:
                self._ended = True
                raise
        self.open()
        return super().read()

    def _opened(self) -> cv2.VideoCapture:
        if self._ended:
            raise DeviceError(f"video {self._device} has ended (loop = false)")
        if not Path(self._device).is_file():
            raise DeviceError(f"video {self._device} is not there")
        video = cv2.VideoCapture(self._device, cv2.CAP_FFMPEG)
        self._pace = Metronome(video.get(cv2.CAP_PROP_FPS) or self._settings.frame_rate_hz)
        return video


class FolderCamera:
    """The images of a folder in the order of their names, over and over, one each 1 / `frame_rate_hz` s."""

    def __init__(self, device: str, settings: CameraSettings) -> None:
        self._folder = Path(device)
        self._left: list[Path] = []
        self._pace = Metronome(settings.frame_rate_hz)

    def open(self) -> None:
        """Look the images up. Raises DeviceError: there are none."""
        self._left = self._pictures()

    def read(self) -> Frame:
        """The next image, when it is due. Raises DeviceError: it is gone or no image."""
        self._pace.wait()
        self._left = self._left or self._pictures()
        path = self._left.pop(0)
        stamp_ns = time.time_ns()
        try:
            # Not cv2.imread: it prints its own warning for a missing file.
            image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error) as error:
            raise DeviceError(f"image {path} cannot be read: {error}") from error
        if image is None:
            raise DeviceError(f"image {path} cannot be decoded")
        return Frame(_uint8(image), stamp_ns)

    def close(self) -> None:
        """Forget the list."""
        self._left = []

    def _pictures(self) -> list[Path]:
        try:
            found = sorted(path for path in self._folder.iterdir() if path.suffix.lower() in PICTURES)
        except OSError as error:
            raise DeviceError(f"folder {self._folder} cannot be read: {error.strerror}") from error
        if not found:
            raise DeviceError(f"folder {self._folder} holds no image; allowed: {', '.join(PICTURES)}")
        return found


class Metronome:
    """Ticks at a steady rate; a late tick is not made up for."""

    def __init__(self, rate_hz: float) -> None:
        self._period_s = min(1.0 / rate_hz, WAIT_MS / 1000)
        self._next_s = 0.0

    def wait(self) -> None:
        """Sleep until the next tick."""
        now_s = time.monotonic()
        if self._next_s > now_s:
            time.sleep(self._next_s - now_s)
        self._next_s = max(self._next_s, now_s) + self._period_s


def _uint8(image: Any) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3:
        raise DeviceError(f"camera gives {image.dtype} {image.shape}, allowed: uint8 height x width x 3")
    return image
