"""The socket behind which a simulated GPIO chip stands; `preload/gpio.c` is the other side, in the programs.

A stand-in for a device file. A question is one packet: two unsigned 32-bit numbers (the ioctl, or 0 to open the chip, 1
to read; the file) and a structure; the answer is a result (negative errno), a token and the structure. Each file is a
socket pair whose other end goes to the program: it is closed when the program's last copy is, by death too. A file's
number is never that of a file of an earlier server at the same path: what a program still holds of that is no file.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import secrets
import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from myrvm_core.errors import RvmError

from myrvm_sim import gpio_abi
from myrvm_sim.gpio_chip import Chip, File

QUESTION = struct.Struct("=II")
ANSWER = struct.Struct("=iI")
TOKEN = struct.Struct("=I")
OPEN, READ = 0, 1
LONGEST = 4096
LARGEST_READ = 60_000
LONGEST_PATH = 107 - 13  # the name of a file's socket holds it: "\0gpio", eight digits
REAL_TIME_PRIORITY = 50


class GpioServer:
    """Serves a chip on a thread of its own, between construction and `stop`.

    Args:
        path: of the socket, `FOLDER/gpiochip0`.
        chip: used inside `exclusively` only.
        exclusively: a context that gives the time (CLOCK_MONOTONIC, ns) and keeps others from the chip; it has to call
            `wake_readers` at its end.
    """

    def __init__(self, path: Path, chip: Chip, exclusively: Callable[[], AbstractContextManager[int]]) -> None:
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise RvmError(f"{path} is too long for a GPIO chip's socket: {LONGEST_PATH} bytes are allowed")
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe,
            contextlib.suppress(FileNotFoundError, ConnectionRefusedError),
        ):
            probe.connect(str(path))
            raise RvmError(f"GPIO chip {path} is there already: another cabinet runs")
        self.path, self._chip, self._exclusively = path, chip, exclusively
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # of one that was killed
            self._listener.bind(str(path))
        except OSError as error:
            self._listener.close()
            raise RvmError(f"GPIO chip {path} cannot be made: {error}") from error
        self._listener.listen(64)
        self._waker, self._wakes = socket.socketpair()
        self._stopping = False
        self._first = secrets.randbits(32)  # of the files' numbers: far from those of every other server
        self._connections: dict[int, socket.socket] = {}
        self._files: dict[int, tuple[socket.socket, int]] = {}  # our end's descriptor: our end, file
        self._ends: dict[int, socket.socket] = {}  # file: our end
        self._closing = select.epoll()
        self._all = select.epoll()
        for watched in (self._listener, self._wakes, self._closing):
            self._all.register(watched, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name=f"gpio {path.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The chip vanishes: its device file, and every open file with it."""
        self.path.unlink(missing_ok=True)
        self._stopping = True
        self._waker.send(b"!")
        self._thread.join()
        for end in [self._listener, self._waker, self._wakes, *self._connections.values(), *self._ends.values()]:
            end.close()
        self._closing.close()
        self._all.close()

    def wake_readers(self) -> None:
        """Tell the programs whose files have become readable. To be called inside `exclusively`."""
        for file in self._chip.readable:
            if end := self._ends.get(file.number):
                with contextlib.suppress(OSError):  # it is being closed
                    end.send(TOKEN.pack(file.token & 0xFFFFFFFF), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self._chip.readable.clear()

    def _run(self) -> None:
        ask_for_real_time()
        while not self._stopping:
            for descriptor, _ in self._all.poll():
                if descriptor == self._listener.fileno():
                    self._accept()
                elif descriptor == self._closing.fileno():
                    self._close_files()
                elif connection := self._connections.get(descriptor):
                    self._serve(connection)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self._connections[connection.fileno()] = connection
        self._all.register(connection, select.EPOLLIN)

    def _close_files(self) -> None:
        hung_up = [(fd, *self._files[fd]) for fd, events in self._closing.poll(0) if events & select.EPOLLRDHUP]
        if not hung_up:
            return
        with self._exclusively() as now_ns:
            for descriptor, end, number in hung_up:
                self._closing.unregister(end)
                del self._files[descriptor], self._ends[number]
                end.close()
                self._chip.close(number, now_ns)

    def _serve(self, connection: socket.socket) -> None:
        try:
            question = connection.recv(LONGEST)
        except OSError:
            question = b""
        if len(question) < QUESTION.size:
            self._all.unregister(connection)
            del self._connections[connection.fileno()]
            connection.close()
            return
        self._close_files()  # what a program has closed before it asks is closed
        theirs = None
        try:
            answer, token, theirs = self._answer(question)
            result = 0
        except OSError as error:
            answer, token, result = b"", 0, -(error.errno or errno.EIO)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))] if theirs else []
        with contextlib.suppress(OSError):  # it is being closed
            connection.sendmsg([ANSWER.pack(result, token & 0xFFFFFFFF), answer], rights, socket.MSG_NOSIGNAL)
        if theirs:
            theirs.close()

    def _answer(self, question: bytes) -> tuple[bytes, int, socket.socket | None]:
        number, file_number = QUESTION.unpack_from(question)
        data = question[QUESTION.size :]
        with self._exclusively() as now_ns:
            if number == OPEN:
                return b"", 0, self._hand_out(self._chip.open())
            file = self._chip.files.get((file_number - self._first) & 0xFFFFFFFF)
            if file is None:
                raise OSError(errno.ENODEV, "a file of the chip that was here before")
            if number == READ:
                events, token = file.read(min(TOKEN.unpack(data)[0], LARGEST_READ))
                return events, token, None
            answer, opened = gpio_abi.ioctl(self._chip, number, file, data, now_ns)
            return answer, 0, self._hand_out(opened) if opened else None

    def _hand_out(self, file: File) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = (self._first + file.number) & 0xFFFFFFFF
        theirs.bind(b"\0gpio%08x" % number + os.fsencode(self.path))
        self._files[ours.fileno()] = ours, file.number
        self._ends[file.number] = ours
        self._closing.register(ours, select.EPOLLRDHUP)
        return theirs


def ask_for_real_time() -> None:
    """Run this thread before ordinary ones, where that is permitted: a chip answers while the CPU is busy too."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REAL_TIME_PRIORITY))
