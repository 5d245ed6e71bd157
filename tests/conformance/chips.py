"""The two chips of the GPIO conformance tests behind one interface: 16 lines, `line0` to `line15`, all pulled down.

Levels are physical. A pull is a resistor outside: an output that the chip drives is stronger.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

LABEL, LINES = "bare-chip", 16
SLOW = float(os.environ.get("MYRVM_TIME_FACTOR", "1"))
LIMIT_S = 10.0 * SLOW
# The kernel reads a line's level in a thread of its own, and two edges before it has run are one: give it time, and
# make more edges than a buffer needs to be full.
PACE_S, SPARE_EDGES = 0.003 * SLOW, 30
CONFIGFS = Path("/sys/kernel/config/gpio-sim")


class TestChip(Protocol):
    """A chip, and the world outside it."""

    __test__ = False
    path: str

    def pull(self, offset: int, up: bool) -> None:
        """Pull a line up or down."""
        ...

    def level(self, offset: int) -> bool:
        """The level of a line."""
        ...

    def unplug(self) -> None:
        """The chip vanishes, whoever uses it; harmless when it is not there."""
        ...

    def plug(self) -> None:
        """A new chip is there; `path` may have changed."""
        ...

    def close(self) -> None:
        """Remove it."""
        ...


class PreloadChip:
    """The simulated chip of this repository (`python -m myrvm_sim.bare_chip`); this process has its library loaded."""

    def __init__(self, folder: Path) -> None:
        self.path = "/dev/gpiochip0"
        os.environ["MYRVM_GPIO"] = str(folder)
        command = [sys.executable, "-m", "myrvm_sim.bare_chip", str(folder), "--lines", str(LINES)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert "ready" in self._answer()

    def pull(self, offset: int, up: bool) -> None:
        self._do(f"pull {offset} {int(up)}")

    def level(self, offset: int) -> bool:
        return bool(self._do(f"level {offset}"))

    def unplug(self) -> None:
        self._do("unplug")

    def plug(self) -> None:
        self._do("plug")

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        assert self._process.wait(LIMIT_S) == 0
        self._process.stdout.close()
        del os.environ["MYRVM_GPIO"]

    def _do(self, command: str) -> Any:
        print(command, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


class GpioSimChip:
    """The kernel's `gpio-sim`. Source: Linux, Documentation/admin-guide/gpio/gpio-sim.rst."""

    def __init__(self, _folder: Path) -> None:
        self._device = CONFIGFS / "conformance"
        self._bank = self._device / "bank"
        if self._device.exists():  # of a run that was killed
            self.close()
        for offset in range(LINES):
            (self._bank / f"line{offset}").mkdir(parents=True)
            (self._bank / f"line{offset}" / "name").write_text(f"line{offset}")
        (self._bank / "num_lines").write_text(str(LINES))
        (self._bank / "label").write_text(LABEL)
        self.plug()

    def pull(self, offset: int, up: bool) -> None:
        self._attribute(offset, "pull").write_text("pull-up" if up else "pull-down")

    def level(self, offset: int) -> bool:
        return self._attribute(offset, "value").read_text().strip() == "1"

    def unplug(self) -> None:
        if (self._device / "live").read_text().strip() == "1":
            (self._device / "live").write_text("0")

    def plug(self) -> None:
        (self._device / "live").write_text("1")
        name = (self._bank / "chip_name").read_text().strip()
        self._attributes = Path("/sys/devices/platform") / (self._device / "dev_name").read_text().strip() / name
        self.path = f"/dev/{name}"

    def close(self) -> None:
        self.unplug()
        for folder in (*self._bank.glob("line*"), self._bank, self._device):
            if folder.is_dir():
                folder.rmdir()

    def _attribute(self, offset: int, name: str) -> Path:
        return self._attributes / f"sim_gpio{offset}" / name


def refusal(call: Callable[[], object]) -> str:
    """The name of the errno with which a call is refused; `done` when it is not."""
    try:
        call()
    except (OSError, ValueError, NotImplementedError) as error:
        number = getattr(error, "errno", None) or error.args[0]
        return errno.errorcode.get(number, str(number))
    return "done"


CHIPS = {"preload": PreloadChip, "gpio-sim": GpioSimChip}
