"""The motor guard: a program of its own that switches the motor lines off when nobody else does.

It inherits the file of the line request, and a pipe from the thread that moves the gate: `+` before a motor is switched
on and again while it runs, `-` when it is off. It looks at the lines themselves, and switches them off when the pipe
ends (that process is dead, however), is silent while a motor runs (frozen, stuck), when a motor runs for too long, runs
unannounced, or runs while an interlock is active. Each `+` is answered by `.`; what it did is told by a letter.

Nothing but the standard library, so that it starts in a moment and owes nothing to the code that it watches.
Source of the ioctls: linux/gpio.h, struct gpio_v2_line_values.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import time

GET_VALUES, SET_VALUES = 0xC010B40E, 0xC010B40F
ALIVE, FIFO, NORMAL = b".", b"F", b"N"
INTERLOCK, SILENT, TOO_LONG, UNANNOUNCED, CHIP_GONE = b"i", b"s", b"t", b"u", b"g"
RUN, REST = b"+", b"-"
LOOK_S, IDLE_LOOK_S = 0.01, 0.1
PRIORITY = 20


def get_values(line_fd: int, mask: int) -> int:
    """Which of the lines in `mask` are active; bits are places in the request. Raises OSError."""
    return struct.unpack("=QQ", fcntl.ioctl(line_fd, GET_VALUES, struct.pack("=QQ", 0, mask)))[0]


def set_values(line_fd: int, active: int, mask: int) -> None:
    """Switch the outputs in `mask`, all at once, from any thread. Raises OSError."""
    fcntl.ioctl(line_fd, SET_VALUES, struct.pack("=QQ", active, mask))


def real_time(priority: int) -> bool:
    """Let this thread run before ordinary ones; whether that is permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return False
    return True


class Guard:
    """Judges what it sees; no I/O. Times are monotonic, s.

    Args:
        motors: the motor lines, bits by their places in the request.
        interlocks: the interlock lines, the same.
        silence_s: longest time without a word while a motor runs.
        bound_s: longest time that one motor line is on.
    """

    def __init__(self, motors: int, interlocks: int, silence_s: float, bound_s: float) -> None:
        self._motors, self._interlocks = motors, interlocks
        self._silence_s, self._bound_s = silence_s, bound_s
        self._heard_s = 0.0
        self._since_s: dict[int, float] = {}  # of each motor line that is on
        self._tripped = False
        self.armed = False

    @property
    def watching(self) -> bool:
        """Whether a motor runs or is about to."""
        return self.armed or bool(self._since_s)

    def heard(self, words: bytes, now_s: float) -> None:
        """What came through the pipe. After a trip only a rest makes good."""
        if REST in words:
            self.armed = self._tripped = False
        if words.endswith(RUN):
            self.armed, self._heard_s = True, now_s

    def judge(self, active: int, now_s: float) -> bytes:
        """The lines as they are; why the motors must be switched off, or nothing."""
        on = [place for place in range(64) if (active & self._motors) >> place & 1]
        self._since_s = {place: self._since_s.get(place, now_s) for place in on}
        why = self._why(active, now_s) if on else b""
        self._tripped = self._tripped or bool(why)
        return why

    def _why(self, active: int, now_s: float) -> bytes:
        if active & self._interlocks:
            return INTERLOCK
        if not self.armed or self._tripped:
            return UNANNOUNCED
        if now_s - self._heard_s > self._silence_s:
            return SILENT
        return TOO_LONG if now_s - min(self._since_s.values()) > self._bound_s else b""


def watch(line_fd: int, pipe_fd: int, word_fd: int, motors: int, guard: Guard, interlocks: int) -> None:
    """Guard until the pipe ends. Raises OSError."""
    pipe, both = select.poll(), select.poll()
    for poller in (pipe, both):
        poller.register(pipe_fd, select.POLLIN)
    both.register(line_fd, select.POLLIN | select.POLLPRI)
    edges_wait = False  # for those who read them: not to be woken by the same ones again and again
    while True:
        ready = (both if guard.watching and not edges_wait else pipe).poll(
            1000.0 * (LOOK_S if guard.watching else IDLE_LOOK_S)
        )
        edges_wait = any(descriptor == line_fd for descriptor, _ in ready)
        words = os.read(pipe_fd, 4096) if any(descriptor == pipe_fd for descriptor, _ in ready) else None
        if words == b"":
            return
        now_s = time.monotonic()
        if words:
            guard.heard(words, now_s)
        why = guard.judge(get_values(line_fd, motors | interlocks), now_s)
        if why:
            set_values(line_fd, 0, motors)
        if answer := why or (ALIVE if words and words.endswith(RUN) else b""):
            os.write(word_fd, answer)


def main(arguments: list[str]) -> int:
    """LINE_FD PIPE_FD WORD_FD MOTORS INTERLOCKS SILENCE_S BOUND_S; whoever stops the machine stops us by the pipe."""
    line_fd, pipe_fd, word_fd, motors, interlocks = (int(argument) for argument in arguments[:5])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(word_fd, False)
    try:
        os.write(word_fd, FIFO if real_time(PRIORITY) else NORMAL)
        guard = Guard(motors, interlocks, float(arguments[5]), float(arguments[6]))
        watch(line_fd, pipe_fd, word_fd, motors, guard, interlocks)
    except OSError:
        return 1  # the chip is gone, or nobody hears us
    finally:
        with contextlib.suppress(OSError):  # the chip is gone, and with it what it drove
            set_values(line_fd, 0, motors)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
