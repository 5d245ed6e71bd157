"""An uninterruptible power supply behind Network UPS Tools (driver `nut`): asks `upsd` over TCP.

`device` is `ups@host:port`, by default port 3493 of this machine. `Listing` is the protocol without I/O: LIST VAR, its
lines, ERR. Source: Network UPS Tools, developer guide, "Network protocol information"; status words: docs/new-drivers.
"""

from __future__ import annotations

import re
import socket

from myrvm_core.errors import DeviceError, SettingsError

from myrvm_hardware.drivers import Role
from myrvm_hardware.settings import PowerSettings

DEVICE = re.compile(r"(?P<ups>[^@:\s]+)(@(?P<host>[^:\s]+)(:(?P<port>\d{1,5}))?)?")
PORT = 3493
TIMEOUT_S = 3.0
LONGEST = 65_536  # bytes of an answer
VARIABLE = re.compile(r'VAR (\S+) (\S+) "((?:[^"\\]|\\.)*)"')


class Listing:
    """The answer to `LIST VAR`, line by line."""

    def __init__(self, ups: str) -> None:
        self.request = f"LIST VAR {ups}\n".encode("ascii")
        self._ups = ups
        self._received = b""
        self.variables: dict[str, str] = {}

    def receive(self, data: bytes) -> bool:
        """Bytes from the server; True when the listing is complete.

        Raises:
            DeviceError: the server refuses, or answers what is not of the protocol.
        """
        self._received += data
        if len(self._received) > LONGEST:
            raise DeviceError(f"upsd answers more than {LONGEST} bytes")
        *lines, self._received = self._received.split(b"\n")
        return any(self._line(line.decode("utf-8", "replace").strip()) for line in lines)

    def _line(self, line: str) -> bool:
        if line.startswith("ERR"):
            raise DeviceError(f"upsd refuses {self._ups}: {line[3:].strip() or 'no reason'}")
        if line == f"BEGIN LIST VAR {self._ups}":
            self.variables.clear()
        elif line == f"END LIST VAR {self._ups}":
            return True
        elif (found := VARIABLE.fullmatch(line)) and found[1] == self._ups:
            self.variables[found[2]] = re.sub(r"\\(.)", r"\1", found[3])
        else:
            raise DeviceError(f"upsd answers {line[:80]!r}, not a listing of {self._ups}")
        return False


def readings(variables: dict[str, str], low_charge: float) -> dict[Role, float]:
    """What the variables of a supply say; one that tells no charge leaves it out. Raises DeviceError."""
    status = variables.get("ups.status", "").split()
    if not status:
        raise DeviceError("upsd gives no ups.status")
    said = {Role.ON_BATTERY: float("OB" in status), Role.BATTERY_LOW: float("LB" in status)}
    if text := variables.get("battery.charge", ""):
        try:
            charge = float(text) / 100.0
        except ValueError as error:
            raise DeviceError(f"upsd gives battery.charge = {text!r}: no number") from error
        if not 0.0 <= charge <= 1.0:
            raise DeviceError(f"upsd gives battery.charge = {charge * 100:g}: 0 .. 100 is allowed")
        said[Role.BATTERY] = charge
        said[Role.BATTERY_LOW] = float("LB" in status or charge <= low_charge)
    return said


class NutServer:
    """One supply of one server; the connection is kept."""

    def __init__(self, device: str, settings: PowerSettings, _role: Role, _sysfs_root: str = "") -> None:
        found = DEVICE.fullmatch(device)
        if not found or int(found["port"] or PORT) > 65_535:
            raise SettingsError(f"device = {device!r} is not allowed: ups@host:port")
        self._ups, self._low_charge = found["ups"], settings.low_charge
        self._address = (found["host"] or "127.0.0.1", int(found["port"] or PORT))
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connect. Raises DeviceError."""
        self.close()
        try:
            self._socket = socket.create_connection(self._address, timeout=TIMEOUT_S)
        except OSError as error:
            raise DeviceError(f"upsd at {self._address[0]}:{self._address[1]} is not reached: {error}") from error

    def read(self) -> dict[Role, float]:
        """On battery, charge 0 .. 1 where it is told, battery low. Raises DeviceError."""
        if self._socket is None:
            raise DeviceError("upsd is not connected")
        listing = Listing(self._ups)
        try:
            self._socket.sendall(listing.request)
            complete = False
            while not complete:
                data = self._socket.recv(4096)
                if not data:
                    raise DeviceError(f"upsd at {self._address[0]}:{self._address[1]} has closed the connection")
                complete = listing.receive(data)
        except OSError as error:
            raise DeviceError(f"upsd at {self._address[0]}:{self._address[1]} does not answer: {error}") from error
        return readings(listing.variables, self._low_charge)

    def close(self) -> None:
        """Disconnect."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()
