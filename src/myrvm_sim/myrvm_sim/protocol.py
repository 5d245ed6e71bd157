"""What is said over the cabinet's Unix socket: one request, one answer, in order; several clients at once.

A message is two unsigned 32-bit lengths (big endian), a JSON text of the first length and raw bytes of the second. A
request is one of the classes below, its `do` names it. The answer is a JSON object: `error` with one line where it
was not done, the fields named in the request's docstring otherwise. Times are CLOCK_MONOTONIC in ns, as the kernel's.
"""

from __future__ import annotations

import socket
import struct
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from myrvm_sim.items import Kind
from myrvm_sim.physics import Jam

LENGTHS = struct.Struct("!II")
LONGEST_JSON = 16 * 1024 * 1024
LONGEST_PAYLOAD = 16 * 1024 * 1024


class ProtocolError(Exception):
    """The other side does not speak this protocol, or has gone."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# For the camera driver


class Picture(_Request):
    """`at_ns`, `height`, `width`, and BGR bytes as payload; waits for the camera's next picture."""

    do: Literal["picture"] = "picture"
    rate_hz: float = Field(default=30.0, gt=0.0, le=1000.0)


# For people: tests, the demo, `rvm insert`


class Insert(_Request):
    """Put an item in: of a kind, or what a picture file shows. `item`: see Truth.

    `disguised`: it is of that kind, whatever the picture shows.
    """

    do: Literal["insert"] = "insert"
    kind: Kind = Kind.MINERAL
    picture: str = Field(default="", max_length=4096)
    disguised: bool = False


class PullOut(_Request):
    """The customer takes the item out of the chamber again. `item`: see Truth."""

    do: Literal["pull_out"] = "pull_out"


class PullBack(_Request):
    """The customer pulls the item on a string out of the bin, behind an open gate. `item`: see Truth."""

    do: Literal["pull_back"] = "pull_back"


class ThrowIn(_Request):
    """Put an item in while the gate is open to the bin. `item`: see Truth."""

    do: Literal["throw_in"] = "throw_in"
    kind: Kind = Kind.NON_MINERAL


class Door(_Request):
    """Open or close the service door."""

    do: Literal["door"] = "door"
    opened: bool


class Hand(_Request):
    """Reach into the gate, or take the hand away."""

    do: Literal["hand"] = "hand"
    inside: bool


class Emergency(_Request):
    """Press or release the emergency stop."""

    do: Literal["emergency"] = "emergency"
    pressed: bool


class Stick(_Request):
    """Jam the gate; null: free it, as a technician does."""

    do: Literal["stick"] = "stick"
    jam: Jam | None


class Bin(_Request):
    """Fill or empty the bin."""

    do: Literal["bin"] = "bin"
    full: bool


class Camera(_Request):
    """What is the matter with the camera."""

    do: Literal["camera"] = "camera"
    state: Literal["live", "dark", "overexposed", "black", "frozen", "unplugged"]


class PowerFail(_Request):
    """The power-fail line becomes active, or inactive again."""

    do: Literal["power_fail"] = "power_fail"
    failing: bool


class Stuck(_Request):
    """The line of a sensor or end switch (`DROP`, `SWITCH_BIN`) stays as `active` says; null: repaired."""

    do: Literal["stuck"] = "stuck"
    line: str
    active: bool | None


class Chatter(_Request):
    """The line of a sensor or end switch toggles for a while."""

    do: Literal["chatter"] = "chatter"
    line: str
    frequency_hz: float = Field(gt=0.0, le=10_000.0)
    duration_s: float = Field(gt=0.0, le=60.0)


class Glitch(_Request):
    """One pulse on the line of a sensor or end switch."""

    do: Literal["glitch"] = "glitch"
    line: str
    width_s: float = Field(gt=0.0, le=1.0)


class ChipPlugged(_Request):
    """The GPIO chip vanishes with everything that is requested of it, or comes back."""

    do: Literal["chip_plugged"] = "chip_plugged"
    plugged: bool


class ChipTrouble(_Request):
    """The GPIO chip refuses debounce with an errno, and grants only so long event buffers; zeros: all is well again."""

    do: Literal["chip_trouble"] = "chip_trouble"
    debounce_errno: int = Field(default=0, ge=0, le=4095)
    longest_buffer: int = Field(default=0, ge=0, le=1024)


class Power(_Request):
    """The supply and its battery, as `/sys/class/power_supply` shows them."""

    do: Literal["power"] = "power"
    mains: bool
    battery_percent: float = Field(default=100.0, ge=0.0, le=100.0)


class Temperature(_Request):
    """One of `/sys/class/thermal`."""

    do: Literal["temperature"] = "temperature"
    zone: Literal["cpu-thermal", "gpu-thermal", "soc0-thermal", "tj-thermal"] = "cpu-thermal"
    celsius: float = Field(ge=-40.0, le=150.0)


class Room(_Request):
    """`free`: whether an item can be put in now."""

    do: Literal["room"] = "room"


class Truth(_Request):
    """`items`: list of {number, kind, weight_kg, place, picture, ...}; `pieces_in_bin`, `jam`, `moving`, `position`."""

    do: Literal["truth"] = "truth"


class Log(_Request):
    """`entries`: list of {at_ns, what, item, detail} of what really happened, oldest first."""

    do: Literal["log"] = "log"


ForPeople: TypeAlias = (
    Insert | PullOut | PullBack | ThrowIn | Door | Hand | Emergency | Stick | Bin | Camera | Room | Truth | Log
)
Faults: TypeAlias = PowerFail | Stuck | Chatter | Glitch | ChipPlugged | ChipTrouble | Power | Temperature
Request: TypeAlias = Picture | ForPeople | Faults
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="do")])


def parse(text: bytes) -> Request:
    """A request from its JSON.

    Raises:
        ValueError: it is none; one line says what is wrong.
    """
    try:
        return _REQUEST.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"request {where or 'text'}: {first['msg']} (got {str(first['input'])[:80]!r})") from None


def send(connection: socket.socket, text: bytes, payload: bytes | memoryview = b"") -> None:
    """Send one message. Raises OSError."""
    connection.sendall(LENGTHS.pack(len(text), len(payload)) + text)
    if payload:
        connection.sendall(payload)


def receive(connection: socket.socket) -> tuple[bytes, bytearray]:
    """Receive one message: JSON text and payload.

    Raises:
        OSError: the connection broke, or the time-out of the socket passed.
        ProtocolError: the other side has closed, or sends something else.
    """
    text_length, payload_length = LENGTHS.unpack(_exactly(connection, LENGTHS.size))
    if text_length > LONGEST_JSON or payload_length > LONGEST_PAYLOAD:
        raise ProtocolError(f"message of {text_length} + {payload_length} bytes is too long")
    return bytes(_exactly(connection, text_length)), _exactly(connection, payload_length)


def _exactly(connection: socket.socket, length: int) -> bytearray:
    buffer = bytearray(length)
    view, filled = memoryview(buffer), 0
    while filled < length:
        received = connection.recv_into(view[filled:])
        if not received:
            raise ProtocolError("connection closed")
        filled += received
    return buffer


Answer = dict[str, Any]
