"""The newest frame of a camera: what counts as a picture, how often one is handed on, and what happened so far.

`FrameCheck` and `Pace` are free of I/O and time; `Capture` runs them on the capture thread.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

from myrvm_core.backoff import Backoff
from myrvm_core.errors import DeviceError

from myrvm_hardware.device_thread import DeviceThread
from myrvm_hardware.drivers import CameraDriver, Frame
from myrvm_hardware.settings import CameraSettings

PROOF = 3  # live pictures in a row that a camera owes after it hung: one new picture after opening proves little
SAMPLE_ROWS = 8  # every eighth row is looked at: noise is everywhere, and a look costs 0.1 ms


class FrameCheck:
    """Tells a live picture from a camera that hangs: identical frames, or black ones, many in a row."""

    def __init__(self, identical_limit: int, black_limit: int, black_level: float) -> None:
        self._identical_limit, self._black_limit, self._black_level = identical_limit, black_limit, black_level
        self._checksum: int | None = None
        self._identical = self._black = 0
        self._owed = 0

    def restart(self) -> None:
        """The camera was opened again: count from the start, remember the last picture and what is owed."""
        self._identical = self._black = 0

    def is_live(self, frame: Frame) -> bool:
        """Whether the frame is a picture to hand on; a black one, or one that repeats its predecessor, is not.

        Raises:
            DeviceError: the camera hangs.
        """
        sample = frame.image[::SAMPLE_ROWS]
        checksum = zlib.crc32(sample.tobytes())
        repeated = self._identical_limit > 0 and checksum == self._checksum
        black = self._black_limit > 0 and float(sample.mean()) <= self._black_level
        self._checksum = checksum
        self._identical = self._identical + 1 if repeated else 0
        self._black = self._black + 1 if black else 0
        if repeated or black:
            self._owed = PROOF if self._owed else 0
        else:
            self._owed = max(0, self._owed - 1)
            return not self._owed
        if black and self._black >= self._black_limit:
            self._owed = PROOF
            raise DeviceError(f"camera delivers black pictures: {self._black} in a row")
        if repeated and self._identical >= self._identical_limit:
            self._owed = PROOF
            raise DeviceError(f"camera delivers the same picture: {self._identical} identical frames in a row")
        return False


class Pace:
    """Lets at most `rate_hz` frames a second through, evenly and without drift."""

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz
        self._due_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Whether a frame at `now_s` (monotonic) goes through."""
        if self._due_s is not None and now_s < self._due_s:
            return False
        # Half a period of grace, so that a camera at the very same rate does not lose every other frame to jitter.
        self._due_s = max((now_s if self._due_s is None else self._due_s) + self._period_s, now_s + self._period_s / 2)
        return True


class Capture:
    """Reads a camera on a thread of its own and keeps only the newest frame.

    Args:
        hand_over: called on the capture thread when a frame waits to be taken, never twice for one `take`.
        wanted: whether anybody would take a frame now; called on the capture thread.
    """

    def __init__(
        self,
        driver: CameraDriver,
        settings: CameraSettings,
        hand_over: Callable[[], None],
        wanted: Callable[[], bool],
        log: Any,
    ) -> None:
        self._driver, self._hand_over, self._wanted = driver, hand_over, wanted
        self._check = FrameCheck(settings.identical_frames, settings.black_frames, settings.black_level)
        self._frame_rate_hz = settings.frame_rate_hz
        self._pace = Pace(self._frame_rate_hz)
        self._lock = threading.Lock()
        self._newest: Frame | None = None
        self._seen_s: float | None = None
        self._window = (time.monotonic(), 0)
        self.frames = self.dropped = 0
        backoff = Backoff(settings.reopen_first_s, settings.reopen_longest_s)
        self.thread = DeviceThread("camera", driver, self._work, lambda _: None, backoff, log)

    def start(self) -> None:
        """Begin with nothing seen."""
        self._newest = self._seen_s = None
        self.thread.start()

    def limit(self, rate_hz: float) -> None:
        """Hand on at most `rate_hz` frames a second from now on; 0: as many as the settings say."""
        self._pace = Pace(min(rate_hz or self._frame_rate_hz, self._frame_rate_hz))

    def take(self) -> Frame | None:
        """The newest frame, once."""
        with self._lock:
            frame, self._newest = self._newest, None
        return frame

    def age_s(self) -> float | None:
        """Seconds since the last live picture; None before the first."""
        return None if self._seen_s is None else time.monotonic() - self._seen_s

    def frame_rate_hz(self) -> float:
        """Live pictures a second since this was asked last."""
        (since_s, frames), now_s = self._window, time.monotonic()
        self._window = (now_s, self.frames)
        return (self.frames - frames) / max(now_s - since_s, 1e-3)

    def _work(self) -> None:
        self._check.restart()
        while not self.thread.stopping.is_set():
            frame = self._driver.read()
            now_s = time.monotonic()
            if not self._pace.is_due(now_s):
                continue
            if not self._check.is_live(frame):
                continue
            self.thread.succeeded()
            self._seen_s = now_s
            self.frames += 1
            if not self._wanted():
                continue
            with self._lock:
                waiting = self._newest is not None
                self._newest = frame
            if waiting:
                self.dropped += 1  # the one before was not taken: it is replaced, and its hand-over serves this one
            else:
                self._hand_over()
