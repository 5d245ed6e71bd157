"""A connection to the simulated cabinet: for the drivers, the demo, tests and `rvm insert`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from myrvm_core.errors import DeviceError, SettingsError

from myrvm_sim import protocol
from myrvm_sim.child import child
from myrvm_sim.items import Kind, Place
from myrvm_sim.physics import ImpossibleError, Jam

SOCKET_VARIABLE = "MYRVM_CABINET"
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

    def insert(self, kind: Kind = Kind.MINERAL, picture: Path | None = None) -> protocol.Answer:
        """Put an item in. Raises ImpossibleError when there is no room or the gate is not closed."""
        request = protocol.Insert(kind=kind, picture=str(picture.resolve()) if picture else "")
        return self._do(request)["item"]

    def pull_out(self) -> protocol.Answer:
        """Take the item out of the chamber again. Raises ImpossibleError when there is none."""
        return self._do(protocol.PullOut())["item"]

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

    def truth(self) -> protocol.Answer:
        """See `protocol.Truth`."""
        return self._do(protocol.Truth())

    def log(self) -> list[protocol.Answer]:
        """See `protocol.Log`."""
        return self._do(protocol.Log())["entries"]

    def chamber_is_free(self) -> bool:
        """Whether an item can be put in now."""
        truth = self.truth()
        occupied = any(item["place"] in (Place.CHAMBER.value, Place.TRAY.value) for item in truth["items"])
        return not occupied and not truth["moving"] and truth["position"] == "CLOSED"

    def _do(self, request: protocol.Request) -> protocol.Answer:
        try:
            return self.ask(request)[0]
        except DeviceError as error:
            if self._connection is None:
                raise
            raise ImpossibleError(str(error)) from None


@contextmanager
def running(path: Path, *arguments: str) -> Iterator[None]:
    """A cabinet process that serves `path`; ends with the context. Raises RvmError when it does not start."""
    with child("myrvm_sim.cabinet", "--socket", str(path), *arguments):
        yield
