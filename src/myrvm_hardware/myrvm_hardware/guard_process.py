"""The actuator's side of the motor guard (`motor_guard`): starts it, tells it what is done, hears whether it lives."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from pathlib import Path

from myrvm_core.errors import DeviceError

from myrvm_hardware import motor_guard

START_S, STOP_S = 20.0, 2.0  # a busy machine may take that long to start an interpreter
SENTENCES = {
    motor_guard.SILENT: "motor guard has switched the motor off: its control was silent for too long",
    motor_guard.TOO_LONG: "motor guard has switched the motor off: it ran for too long",
    motor_guard.UNANNOUNCED: "motor guard has switched the motor off: it ran unannounced",
}


class GuardProcess:
    """One guard for one line request. One thread at a time uses it.

    Args:
        line_fd: of the request; the guard holds a copy until `stop`.
        motors: the motor lines, as bits by their places in the request.
        interlocks: the interlock lines, the same.
        silence_s: without a word for so long while a motor runs, the guard acts.
        bound_s: a motor that runs longer is switched off.

    Raises:
        DeviceError: it does not start.
    """

    def __init__(self, line_fd: int, motors: int, interlocks: int, silence_s: float, bound_s: float) -> None:
        self._silence_s = silence_s
        self.real_time = False
        self.saw_interlock = False  # it has switched off for one; the reader of this takes it back
        self._heard_s = 0.0
        theirs, self._pipe = os.pipe()
        self._words, their_words = os.pipe()
        os.set_blocking(self._pipe, False)
        os.set_blocking(self._words, False)
        figures = (line_fd, theirs, their_words, motors, interlocks, silence_s, bound_s)
        try:
            # -I -S: no site-packages, whose start-up hooks cost time. A session of its own: Ctrl-C is not for it.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(motor_guard.__file__)), *(str(figure) for figure in figures)],
                pass_fds=(line_fd, theirs, their_words),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._pipe)
            os.close(self._words)
            raise DeviceError(f"motor guard cannot be started: {error}") from error
        finally:
            os.close(theirs)
            os.close(their_words)
        try:
            self._wait(START_S)
        except DeviceError:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def arm(self) -> None:
        """Before a motor is switched on: returns when the guard has said that it watches. Raises DeviceError."""
        self._hear()
        self.saw_interlock = False
        self._say(motor_guard.REST + motor_guard.RUN)
        self._wait(self._silence_s)

    def beat(self) -> None:
        """While a motor runs. Raises DeviceError: the guard has acted, is dead, or does not answer."""
        self._say(motor_guard.RUN)
        self._hear()
        if time.monotonic() - self._heard_s > self._silence_s:
            raise DeviceError("motor guard does not answer")

    def rest(self) -> None:
        """The motors are off. Raises DeviceError."""
        self._say(motor_guard.REST)

    def check(self) -> None:
        """Raises DeviceError when it is dead, or has acted."""
        self._hear()
        if self._process.poll() is not None:
            raise DeviceError(f"motor guard has ended: {self._end()}")

    def stop(self) -> None:
        """End it; it lets go of the lines. They must be off."""
        for descriptor in (self._pipe, self._words):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._pipe = self._words = -1
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, words: bytes) -> None:
        try:
            os.write(self._pipe, words)
        except OSError as error:
            raise DeviceError(f"motor guard is not reached: {error}") from error

    def _wait(self, limit_s: float) -> None:
        poller = select.poll()
        poller.register(self._words, select.POLLIN)
        asked_s = time.monotonic()
        while self._heard_s < asked_s:
            left_s = asked_s + limit_s - time.monotonic()
            if left_s <= 0.0 or not poller.poll(1000.0 * left_s):
                raise DeviceError("motor guard does not answer")
            self._hear()

    def _hear(self) -> None:
        try:
            words = os.read(self._words, 4096)
        except BlockingIOError:
            return
        if not words:
            raise DeviceError(f"motor guard has ended: {self._end()}")
        self._heard_s = time.monotonic()
        self.real_time = self.real_time or motor_guard.FIFO in words
        self.saw_interlock = self.saw_interlock or motor_guard.INTERLOCK in words
        for word, sentence in SENTENCES.items():
            if word in words:
                raise DeviceError(sentence)

    def _end(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(STOP_S)
            return f"signal {-code}" if code < 0 else f"exit status {code}"
        return "it closed its pipe"
