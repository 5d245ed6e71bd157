"""What counts as a picture, how often one is handed on, and a camera that comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import DeviceError, SettingsError
from myrvm_hardware.capture import Capture, FrameCheck, Pace
from myrvm_hardware.drivers import Frame
from myrvm_hardware.settings import CameraSettings

from myrvm_hardware import calibration

LIMIT_S = 30.0


def frame(seed: int, level: int = 100) -> Frame:
    noise = np.random.default_rng(seed).integers(0, 10, (32, 32, 3), dtype=np.uint8)
    return Frame(noise + np.uint8(level), seed)


BLACK = Frame(np.zeros((32, 32, 3), np.uint8), 0)


def test_noise_is_life() -> None:
    check = FrameCheck(3, 3, 2.0)
    assert all(check.is_live(frame(seed)) for seed in range(20))


def test_identical_frames_are_no_pictures_and_at_last_an_error() -> None:
    check = FrameCheck(3, 3, 2.0)
    assert check.is_live(frame(1))
    assert not check.is_live(frame(1))
    assert not check.is_live(frame(1))
    with pytest.raises(DeviceError, match="the same picture: 3 identical frames in a row"):
        check.is_live(frame(1))
    check.restart()
    assert not check.is_live(frame(1))  # the camera was opened again and still hangs
    assert [check.is_live(frame(seed)) for seed in (2, 3)] == [False, False]
    assert not check.is_live(frame(3))  # the proof begins again
    assert [check.is_live(frame(seed)) for seed in (4, 5, 6, 7)] == [False, False, True, True]


def test_black_frames_are_no_pictures_and_at_last_an_error() -> None:
    check = FrameCheck(0, 3, 2.0)
    assert [check.is_live(BLACK), check.is_live(BLACK)] == [False, False]
    with pytest.raises(DeviceError, match="black pictures: 3 in a row"):
        check.is_live(BLACK)


def test_zero_switches_the_checks_off() -> None:
    check = FrameCheck(0, 0, 2.0)
    assert all(check.is_live(BLACK) for _ in range(100))


@given(rate_hz=st.floats(1.0, 30.0), camera_hz=st.floats(1.0, 120.0), jitter=st.randoms(use_true_random=False))
def test_pace_lets_the_asked_rate_through(rate_hz: float, camera_hz: float, jitter: object) -> None:
    pace = Pace(rate_hz)
    seconds = 20.0
    stamps = [(index + jitter.uniform(-0.1, 0.1)) / camera_hz for index in range(int(seconds * camera_hz))]  # type: ignore[attr-defined]
    through = sum(pace.is_due(stamp) for stamp in stamps)
    assert through <= rate_hz * seconds + 1
    assert through >= 0.9 * min(rate_hz, camera_hz) * seconds - 1


class ScriptedCamera:
    """A test's camera: plays frames and errors, then waits to be stopped."""

    def __init__(self, script: Sequence[Frame | DeviceError]) -> None:
        self.script = list(script)
        self.opened = self.closed = 0
        self.done = threading.Event()
        self.idle = threading.Event()

    def open(self) -> None:
        self.opened += 1

    def read(self) -> Frame:
        if not self.script:
            self.idle.set()
            assert self.done.wait(LIMIT_S)
            raise DeviceError("script ended")
        step = self.script.pop(0)
        if isinstance(step, DeviceError):
            raise step
        return step

    def close(self) -> None:
        self.closed += 1


def play(
    script: Sequence[Frame | DeviceError], take: bool = True, wanted: bool = True
) -> tuple[Capture, ScriptedCamera, list[Frame]]:
    camera = ScriptedCamera(script)
    taken: list[Frame] = []

    def hand_over() -> None:
        if take:
            newest = capture.take()
            assert newest is not None
            taken.append(newest)

    settings = CameraSettings(frame_rate_hz=120.0, identical_frames=3, reopen_first_s=0.01, reopen_longest_s=0.01)
    capture = Capture(camera, settings, hand_over, lambda: wanted, structlog.get_logger())
    # The pace is tested above; here every frame counts.
    capture._pace.is_due = lambda now_s: True  # type: ignore[method-assign]
    capture.start()
    assert camera.idle.wait(LIMIT_S)
    return capture, camera, taken


def end(capture: Capture, camera: ScriptedCamera) -> None:
    camera.done.set()
    capture.thread.stop()
    assert camera.opened == camera.closed or camera.closed > 0


def test_frames_are_handed_over_in_order() -> None:
    capture, camera, taken = play([frame(1), frame(2), frame(3)])
    end(capture, camera)
    assert [one.stamp_ns for one in taken] == [1, 2, 3]
    assert (capture.frames, capture.dropped) == (3, 0)


def test_only_the_newest_is_kept_and_the_others_are_counted() -> None:
    capture, camera, _ = play([frame(1), frame(2), frame(3)], take=False)
    newest = capture.take()
    assert newest is not None
    assert newest.stamp_ns == 3
    assert capture.take() is None
    assert capture.dropped == 2
    end(capture, camera)


def test_nothing_is_handed_over_when_nobody_listens() -> None:
    capture, camera, taken = play([frame(1), frame(2)], wanted=False)
    assert (taken, capture.frames, capture.dropped) == ([], 2, 0)
    assert capture.age_s() is not None
    end(capture, camera)


def test_a_lost_camera_is_opened_again() -> None:
    capture, camera, taken = play([frame(1), DeviceError("unplugged"), DeviceError("unplugged"), frame(2)])
    assert [one.stamp_ns for one in taken] == [1, 2]
    assert capture.thread.opened == 3
    assert capture.thread.problem == ""
    end(capture, camera)
    assert camera.closed == 3


def test_a_frozen_camera_is_opened_again_until_it_lives() -> None:
    capture, camera, taken = play([frame(1)] * 12 + [frame(2), frame(3), frame(4)])
    assert [one.stamp_ns for one in taken] == [1, 4]
    assert capture.thread.opened > 1
    end(capture, camera)


def test_a_defect_of_a_driver_does_not_end_the_thread() -> None:
    camera = ScriptedCamera([frame(2)])
    reads = iter([ZeroDivisionError("defect")])
    read = camera.read

    def broken() -> Frame:
        for defect in reads:
            raise defect
        return read()

    camera.read = broken  # type: ignore[method-assign]
    settings = CameraSettings(reopen_first_s=0.01, reopen_longest_s=0.01)
    capture = Capture(camera, settings, lambda: None, lambda: True, structlog.get_logger())
    capture.start()
    assert camera.idle.wait(LIMIT_S)
    assert capture.frames == 1
    end(capture, camera)


def test_a_driver_that_does_not_return_is_not_started_twice() -> None:
    capture, camera, _ = play([frame(1)])
    capture.thread.stop(limit_s=0.05)
    with pytest.raises(DeviceError, match="camera: the driver has not returned since it was stopped"):
        capture.start()
    end(capture, camera)
    capture.start()
    end(capture, camera)


GOOD = """
image_width: 640
image_height: 480
camera_name: chamber
camera_matrix: {rows: 3, cols: 3, data: [600, 0, 320, 0, 600, 240, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [600, 0, 320, 0, 0, 600, 240, 0, 0, 0, 1, 0]}
"""


def test_a_calibration_is_read(tmp_path: Path) -> None:
    file = tmp_path / "camera.yaml"
    file.write_text(GOOD)
    read = calibration.load(str(file))
    assert (read.image_width, read.camera_matrix.data[0], read.distortion_coefficients.cols) == (640, 600.0, 5)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[1, 2]", "must be a mapping"),
        ("a: [", "cannot be read"),
        (GOOD.replace("image_width: 640", "image_width: wide"), "image_width = 'wide' is not allowed"),
        (GOOD.replace("[600, 0, 320, 0, 600", "[600, 0, 600"), "allowed: rows x cols = 9"),
        (GOOD.replace("{rows: 3, cols: 4,", "{rows: 4, cols: 3,"), "projection_matrix is 4 x 3, allowed: 3 x 4"),
    ],
)
def test_garbage_is_no_calibration(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "camera.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=line):
        calibration.load(str(file))


def test_a_missing_calibration_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml cannot be read"):
        calibration.load(str(tmp_path / "nowhere.yaml"))


def test_a_limit_slows_the_pace_and_its_end_restores_it() -> None:
    capture = Capture(
        ScriptedCamera([]), CameraSettings(frame_rate_hz=16.0), lambda: None, lambda: True, structlog.get_logger()
    )
    gaps_s = []
    for rate_hz in (0.0, 4.0, 50.0):
        capture.limit(rate_hz)
        due = [number / 128 for number in range(128) if capture._pace.is_due(number / 128)]
        gaps_s.append(due[-1] - due[-2])
    assert gaps_s == [1 / 16, 1 / 4, 1 / 16]
