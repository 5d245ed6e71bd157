"""A connection to the simulated cabinet: for the drivers, the demo, tests and `rvm insert`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from myrvm_core.errors import DeviceError, SettingsError

from myrvm_sim import protocol
from myrvm_sim.child import child
from myrvm_sim.items import Kind
from myrvm_sim.physics import ImpossibleError, Jam

SOCKET_VARIABLE = "MYRVM_CABINET"
GPIO_LIBRARY = Path(sys.prefix) / "lib" / "libmyrvm_gpio.so"  # made by deploy/desk/setup.py
TIMEOUT_S = 10.0  # a busy machine may let the cabinet wait for its turn


def socket_path(device: str = "") -> Path:
    """The socket that `device` names, or MYRVM_CABINET where it is empty.

    Raises:
        SettingsError: neither names one.
    """
    named = device or os.environ.get(SOCKET_VARIABLE, "")
    if not named:
        raise SettingsError(f"no cabinet: device is empty and {SOCKET_VARIABLE} is not set; allowed: a socket's path")
    return Path(named)


class CabinetClient:
    """One connection; may be used by several threads, one request at a time.

    Every call raises DeviceError when the cabinet does not answer; the connection is closed then, `open` makes another.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or socket_path()
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Connect. Raises DeviceError."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise DeviceError(f"cabinet {self._path} is not reached: {error}") from error
        with self._lock:
            self._connection = connection

    def close(self) -> None:
        """Disconnect; harmless when not connected. Does not wait for a request that another thread has under way."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def ask(self, request: protocol.Request, wait_s: float = 0.0) -> tuple[protocol.Answer, bytearray]:
        """Send a request; the answer and its payload.

        Args:
            request: what to ask.
            wait_s: how long the request itself may wait in the cabinet.

        Raises:
            DeviceError: no answer, or the cabinet refuses.
        """
        with self._lock:
            connection = self._connection
            if connection is None:
                raise DeviceError(f"cabinet {self._path} is not open")
            try:
                connection.settimeout(TIMEOUT_S + wait_s)
                protocol.send(connection, request.model_dump_json().encode())
                text, payload = protocol.receive(connection)
                answer = json.loads(text)
            except (OSError, ValueError, protocol.ProtocolError) as error:
                self.close()
                raise DeviceError(f"cabinet {self._path} is lost: {error}") from error
        if "error" in answer:
            raise DeviceError(answer["error"])
        return answer, payload

    def __enter__(self) -> CabinetClient:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # For people

    def insert(
        self, kind: Kind = Kind.MINERAL, picture: Path | None = None, disguised: bool = False
    ) -> protocol.Answer:
        """Put an item in; a disguised one looks as `picture`. Raises ImpossibleError when there is no room for it."""
        shown = str(picture.resolve()) if picture else ""
        request = protocol.Insert(kind=kind, picture=shown, disguised=disguised)
        return self._do(request)["item"]

    def pull_out(self) -> protocol.Answer:
        """Take the item out of the chamber again. Raises ImpossibleError when there is none."""
        return self._do(protocol.PullOut())["item"]

    def pull_back(self) -> protocol.Answer:
        """Pull the item on a string out of the bin. Raises ImpossibleError when it cannot come back."""
        return self._do(protocol.PullBack())["item"]

    def throw_in(self, kind: Kind = Kind.NON_MINERAL) -> protocol.Answer:
        """Put an item in while the gate is open. Raises ImpossibleError when it is not."""
        return self._do(protocol.ThrowIn(kind=kind))["item"]

    def set_door(self, opened: bool) -> None:
        """Open or close the service door."""
        self._do(protocol.Door(opened=opened))

    def set_hand(self, inside: bool) -> None:
        """Reach into the gate, or take the hand away."""
        self._do(protocol.Hand(inside=inside))

    def set_emergency(self, pressed: bool) -> None:
        """Press or release the emergency stop."""
        self._do(protocol.Emergency(pressed=pressed))

    def stick(self, jam: Jam | None) -> None:
        """Jam the gate, or with None free it."""
        self._do(protocol.Stick(jam=jam))

    def set_bin(self, full: bool) -> None:
        """Fill or empty the bin."""
        self._do(protocol.Bin(full=full))

    def set_camera(self, state: str) -> None:
        """`live`, `dark`, `overexposed`, `black`, `frozen` or `unplugged`."""
        self._do(protocol.Camera.model_validate({"state": state}))

    def set_power_fail(self, failing: bool) -> None:
        """The power-fail line."""
        self._do(protocol.PowerFail(failing=failing))

    def stick_line(self, line: str, active: bool | None) -> None:
        """A sensor's or end switch's line stays so; None: repaired."""
        self._do(protocol.Stuck(line=line, active=active))

    def chatter(self, line: str, frequency_hz: float, duration_s: float) -> None:
        """A sensor's or end switch's line toggles for a while."""
        self._do(protocol.Chatter(line=line, frequency_hz=frequency_hz, duration_s=duration_s))

    def glitch(self, line: str, width_s: float) -> None:
        """One pulse on a sensor's or end switch's line."""
        self._do(protocol.Glitch(line=line, width_s=width_s))

    def plug_chip(self, plugged: bool) -> None:
        """The GPIO chip is there, or vanishes."""
        self._do(protocol.ChipPlugged(plugged=plugged))

    def trouble_chip(self, debounce_errno: int = 0, longest_buffer: int = 0) -> None:
        """The GPIO chip refuses debounce, grants only short event buffers; zeros: all is well again."""
        self._do(protocol.ChipTrouble(debounce_errno=debounce_errno, longest_buffer=longest_buffer))

    def set_power(self, mains: bool, battery_percent: float = 100.0) -> None:
        """What `class/power_supply` of the simulated sysfs shows."""
        self._do(protocol.Power(mains=mains, battery_percent=battery_percent))

    def set_temperature(self, celsius: float, zone: str = "cpu-thermal") -> None:
        """What a thermal zone of the simulated sysfs shows."""
        self._do(protocol.Temperature.model_validate({"zone": zone, "celsius": celsius}))

    def truth(self) -> protocol.Answer:
        """See `protocol.Truth`."""
        return self._do(protocol.Truth())

    def log(self) -> list[protocol.Answer]:
        """See `protocol.Log`."""
        return self._do(protocol.Log())["entries"]

    def chamber_is_free(self) -> bool:
        """Whether an item can be put in now."""
        return self._do(protocol.Room())["free"]

    def _do(self, request: protocol.Request) -> protocol.Answer:
        try:
            return self.ask(request)[0]
        except DeviceError as error:
            if self._connection is None:
                raise
            raise ImpossibleError(str(error)) from None


@contextmanager
def running(path: Path, *arguments: str) -> Iterator[dict[str, str]]:
    """A cabinet process that serves `path`, with a GPIO chip and a piece of `/sys` beside it; ends with the context.

    Gives the environment in which a program meets them. Raises RvmError when it does not start.
    """
    gpio, sysfs = path.parent / "gpio", path.parent / "sys"
    with child("myrvm_sim.cabinet", "--socket", str(path), "--gpio", str(gpio), "--sysfs", str(sysfs), *arguments):
        yield {
            SOCKET_VARIABLE: str(path),
            "MYRVM_GPIO": str(gpio),
            "MYRVM_SYSFS": str(sysfs),
            "LD_PRELOAD": f"{GPIO_LIBRARY} {other_libraries()}".strip(),
        }


def other_libraries() -> str:
    """What LD_PRELOAD names beside the GPIO library."""
    return " ".join(name for name in os.environ.get("LD_PRELOAD", "").split() if name != str(GPIO_LIBRARY))
