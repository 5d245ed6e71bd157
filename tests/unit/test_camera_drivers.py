"""Camera drivers on what a machine without cameras has: folders, video files, and devices that are not there."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from myrvm_core.errors import DeviceError, SettingsError
from myrvm_hardware.camera_drivers import (
    CsiCamera,
    FileCamera,
    FolderCamera,
    Metronome,
    RtspCamera,
    V4l2Camera,
    csi_pipeline,
)
from myrvm_hardware.drivers import CAMERA_DRIVERS, find_driver
from myrvm_hardware.settings import CameraSettings

from myrvm_hardware import camera_drivers

FAST = CameraSettings(frame_rate_hz=120.0)


def save(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for level, name in enumerate(names, 1):
        cv2.imwrite(str(folder / name), np.full((6, 8, 3), 10 * level, np.uint8))


def test_a_folder_is_shown_in_the_order_of_its_names_over_and_over(tmp_path: Path) -> None:
    save(tmp_path / "pictures", "b.png", "a.png", "c.PNG")
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    camera = FolderCamera(str(tmp_path / "pictures"), FAST)
    camera.open()
    before_ns = time.time_ns()
    frames = [camera.read() for _ in range(5)]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [20, 10, 30, 20, 10]
    assert frames[0].image.shape == (6, 8, 3)
    assert before_ns <= frames[0].stamp_ns < frames[4].stamp_ns <= time.time_ns()
    camera.close()


def test_a_folder_that_goes_and_comes(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    camera = FolderCamera(str(folder), FAST)
    with pytest.raises(DeviceError, match="pictures cannot be read: No such file"):
        camera.open()
    folder.mkdir()
    with pytest.raises(DeviceError, match=r"holds no image; allowed: \.bmp"):
        camera.open()
    save(folder, "a.png")
    camera.open()
    assert camera.read().image[0, 0, 0] == 10
    shutil.rmtree(folder)
    with pytest.raises(DeviceError, match="cannot be read"):
        camera.read()


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.png").write_bytes(b"")
    camera = FolderCamera(str(tmp_path), FAST)
    camera.open()
    for name in ("a.png", "b.png"):
        with pytest.raises(DeviceError, match=f"{name} cannot be"):
            camera.read()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 100.0, (64, 48))
    for level in (50, 100, 150):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


def test_a_film_starts_again_at_its_end(video: Path) -> None:
    camera = FileCamera(str(video), FAST)
    camera.open()
    levels = [round(float(camera.read().image.mean()) / 50) for _ in range(7)]
    camera.close()
    assert levels == [1, 2, 3, 1, 2, 3, 1]


def test_a_film_without_loop_ends_and_stays_ended(video: Path) -> None:
    camera = FileCamera(str(video), CameraSettings(frame_rate_hz=120.0, loop=False))
    camera.open()
    for _ in range(3):
        camera.read()
    with pytest.raises(DeviceError):
        camera.read()
    with pytest.raises(DeviceError, match=r"has ended \(loop = false\)"):
        camera.open()


def test_a_film_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="is not there"):
        FileCamera(str(tmp_path / "none.mp4"), FAST).open()
    (tmp_path / "garbage.mp4").write_bytes(b"garbage")
    with pytest.raises(DeviceError, match="does not open"):
        FileCamera(str(tmp_path / "garbage.mp4"), FAST).open()


def test_reading_what_is_not_open_is_an_error(video: Path) -> None:
    camera = FileCamera(str(video), CameraSettings(loop=False))
    with pytest.raises(DeviceError, match="gives no picture"):
        camera.read()
    camera.close()


def test_a_missing_v4l2_camera_is_named() -> None:
    with pytest.raises(DeviceError, match="camera /dev/video99 is not there"):
        V4l2Camera("/dev/video99", CameraSettings()).open()


def test_a_file_is_no_v4l2_camera(video: Path) -> None:
    with pytest.raises(DeviceError, match="does not open"):
        V4l2Camera(str(video), CameraSettings()).open()


class Webcam:
    """Stands in for OpenCV's V4L2 back end: a camera with a mind of its own. The real one: tests/conformance."""

    opened = True

    def __init__(self, stamp_s: float = 0.0, pixel_format: str = "YUYV", error: str = "") -> None:
        self._error = error
        self._gives = {
            cv2.CAP_PROP_POS_MSEC: stamp_s * 1e3,
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*pixel_format),
            cv2.CAP_PROP_FRAME_WIDTH: 320.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 180.0,
        }

    def set(self, _what: int, _value: float) -> bool:
        return False

    def get(self, what: int) -> float:
        return self._gives[what]

    def isOpened(self) -> bool:
        return self.opened

    def grab(self) -> bool:
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        if self._error:
            raise cv2.error(self._error)
        return True, np.zeros((180, 320, 3), np.uint8)

    def release(self) -> None:
        self.opened = False


def webcam(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, video: Webcam, pixel_format: str = "MJPG") -> V4l2Camera:
    (tmp_path / "video0").touch()
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: video)
    return V4l2Camera(str(tmp_path / "video0"), CameraSettings(pixel_format=pixel_format))


def test_a_camera_that_gives_something_else_is_a_warning_and_no_picture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    webcam(monkeypatch, tmp_path, Webcam()).open()
    assert "video0 gives 320x180 YUYV, asked for was 640x480 MJPG" in caplog.text
    strange = Webcam(pixel_format="NV24")
    with pytest.raises(DeviceError, match="video0 gives 'NV24'; allowed pixel_format: MJPG"):
        webcam(monkeypatch, tmp_path, strange, "").open()
    assert not strange.opened
    broken = webcam(monkeypatch, tmp_path, Webcam(error="Bad number of channels"))
    broken.open()
    with pytest.raises(DeviceError, match="cannot be decoded"):
        broken.read()


def test_a_picture_that_has_waited_keeps_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic_s = time.monotonic()
    camera = webcam(monkeypatch, tmp_path, Webcam(stamp_s=monotonic_s + 5.0))
    camera.open()
    monkeypatch.setattr(camera_drivers, "time", SimpleNamespace(monotonic_ns=lambda: round((monotonic_s + 60.0) * 1e9)))
    waited_ns = time.time_ns() - camera.read().stamp_ns
    assert waited_ns == pytest.approx(-5e9, abs=1e9)


@pytest.mark.parametrize("stamp_s", [0.0, 1e12])
def test_a_driver_that_stamps_by_another_clock_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamp_s: float
) -> None:
    camera = webcam(monkeypatch, tmp_path, Webcam(stamp_s=stamp_s))
    before_ns = time.time_ns()
    camera.open()
    assert camera.read().stamp_ns >= before_ns - 1_000_000_000


def test_a_network_camera_that_is_not_reached_says_so() -> None:
    with pytest.raises(DeviceError, match=r"rtsp://127\.0\.0\.1:1/ does not open"):
        RtspCamera("rtsp://127.0.0.1:1/", CameraSettings()).open()


def test_the_password_of_a_network_camera_is_not_told() -> None:
    with pytest.raises(DeviceError, match="does not open") as caught:
        RtspCamera("rtsp://operator:hunter2@127.0.0.1:1/", CameraSettings()).open()
    assert "hunter2" not in str(caught.value)


@pytest.mark.skipif("GStreamer:                   YES" in cv2.getBuildInformation(), reason="this OpenCV has GStreamer")
def test_csi_without_gstreamer_says_what_is_missing() -> None:
    with pytest.raises(DeviceError, match="has no GStreamer"):
        CsiCamera("0", CameraSettings()).open()


def test_the_pipeline_of_a_csi_camera() -> None:
    pipeline = csi_pipeline("1", CameraSettings(width_px=1280, height_px=720, frame_rate_hz=15.0))
    assert pipeline.startswith("nvarguscamerasrc sensor-id=1 ! ")
    assert "framerate=15/1" in pipeline
    assert "width=1280, height=720, format=BGRx" in pipeline
    assert pipeline.endswith("appsink drop=true max-buffers=1 sync=false")
    assert csi_pipeline("videotestsrc ! appsink", CameraSettings()) == "videotestsrc ! appsink"


def test_a_late_tick_is_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, slept = [10.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(time, "sleep", slept.append)
    metronome = Metronome(10.0)
    metronome.wait()
    metronome.wait()
    assert slept == [pytest.approx(0.1)]
    now_s[0] = 20.0
    metronome.wait()
    now_s[0] = 20.05
    metronome.wait()
    assert slept == [pytest.approx(0.1), pytest.approx(0.05)]


@pytest.mark.parametrize("name", ["v4l2", "csi", "rtsp", "file", "folder"])
def test_drivers_are_registered(name: str) -> None:
    assert callable(find_driver(CAMERA_DRIVERS, name))


def test_an_unknown_driver_is_named_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"driver = 'webcam' is not installed .* allowed: .*csi, file, folder"):
        find_driver(CAMERA_DRIVERS, "webcam")
