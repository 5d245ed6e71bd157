"""A simulated GPIO chip with nothing behind it: `python -m myrvm_sim.bare_chip FOLDER [--lines N]`, a process.

A stand-in for hardware, for tests of what programs do with a chip. Each line on stdin is a command, answered by a line:
`drive OFFSET 0|1|-` (the outside drives a line, or lets it go), `pull OFFSET 0|1` (a resistor outside), `level OFFSET`,
`unplug`, `plug`, `refuse ERRNO` (debounce; 0: no more), `buffer N` (the longest event buffer that is granted), `pulses
OFFSET COUNT PERIOD_NS`.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from myrvm_sim.gpio_chip import Chip
from myrvm_sim.gpio_server import GpioServer


class BareChip:
    """The chip, plugged in or not."""

    def __init__(self, folder: Path, lines: int) -> None:
        self._path = folder / "gpiochip0"
        self._lines = [(f"line{offset}", False) for offset in range(lines)]
        self._lock = threading.Condition(threading.RLock())
        self._stopping = False
        self.plug()
        self._thread = threading.Thread(target=self._run, name="debounce")
        self._thread.start()

    def plug(self) -> None:
        """A new chip is there."""
        self._chip = Chip("gpiochip0", "bare-chip", self._lines, to_realtime)
        self._server: GpioServer | None = None
        self._server = GpioServer(self._path, self._chip, self.now)

    def unplug(self) -> None:
        """The chip vanishes."""
        server, self._server = self._server, None
        if server:
            server.stop()

    @contextmanager
    def now(self) -> Iterator[int]:
        """The chip for one thread, and the time."""
        with self._lock:
            now_ns = time.monotonic_ns()
            self._chip.advance(now_ns)
            yield now_ns
            self._wake_readers()
            self._chip.take_levels()
            self._lock.notify_all()

    def command(self, name: str, *arguments: str) -> object:
        """Do what a line on stdin says."""
        if name in ("plug", "unplug"):
            return getattr(self, name)()
        numbers = [None if argument == "-" else int(argument) for argument in arguments]
        with self.now() as now_ns:
            match name, numbers:
                case "drive", [int(offset), level]:
                    self._chip.drive(offset, None if level is None else bool(level), now_ns)
                case "pull", [int(offset), int(up)]:
                    self._chip.pull(offset, bool(up), now_ns)
                case "level", [int(offset)]:
                    return int(self._chip.lines[offset].level)
                case "refuse", [int(number)]:
                    self._chip.debounce_error = number
                case "buffer", [int(longest)]:
                    self._chip.longest_buffer = longest
                case "pulses", [int(offset), int(count), int(period_ns)]:
                    for index in range(2 * count):
                        at_ns = now_ns - (2 * count - index) * period_ns // 2
                        self._chip.drive(offset, index % 2 == 0, at_ns)
                case _:
                    raise ValueError(f"{name} {arguments} is no command")
        return None

    def stop(self) -> None:
        """Unplug, and end."""
        self.unplug()
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        self._thread.join()

    def _run(self) -> None:
        with self._lock:
            while not self._stopping:
                due_ns = self._chip.next_event_ns()
                self._lock.wait(None if due_ns is None else max(0, due_ns - time.monotonic_ns()) / 1e9)
                self._chip.advance(time.monotonic_ns())
                self._wake_readers()

    def _wake_readers(self) -> None:
        if server := self._server:  # another thread may unplug it
            server.wake_readers()


def to_realtime(monotonic_ns: int) -> int:
    """A time of CLOCK_MONOTONIC on CLOCK_REALTIME, ns."""
    return time.time_ns() - time.monotonic_ns() + monotonic_ns


def main(arguments: list[str] | None = None) -> int:
    """Run until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m myrvm_sim.bare_chip", description="A GPIO chip, and nothing else.")
    parser.add_argument("folder", type=Path, help="where programs look: their MYRVM_GPIO")
    parser.add_argument("--lines", type=int, default=16)
    options = parser.parse_args(arguments)
    chip = BareChip(options.folder, options.lines)
    print(json.dumps({"ready": str(options.folder)}), flush=True)
    for text in sys.stdin:
        print(json.dumps(chip.command(*text.split())), flush=True)
    chip.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
