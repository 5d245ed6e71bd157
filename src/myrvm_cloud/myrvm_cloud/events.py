"""What comes over the WebSocket, typed, and which of it a channel may carry. No I/O.

Documents (commands, configuration, maintenance) are opaque here: whoever acts on one checks its signature first. What
is not signed (session, result, display) can do no harm, and is all that a public channel may carry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

EXCERPT_CHARACTERS = 200

Text = Annotated[str, Field(max_length=500)]
Identifier = Annotated[  # Laravel's are integers or UUIDs
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) and not isinstance(value, bool) else value),
    Field(min_length=1, max_length=100),
]


class LineState(Enum):
    """The line as the graph sees it."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    SUBSCRIBED = "subscribed"
    ALARM = "alarm"
    """Connected, but a subscription is not confirmed: no events come."""
    REFUSED = "refused"
    """The server will have none of this machine as it is configured; only a slow probe goes on."""


@dataclass(frozen=True)
class LineChanged:
    """The line's new state; `reason` is for a person."""

    state: LineState
    reason: str = ""


@dataclass(frozen=True)
class CatchUp:
    """Nothing is replayed: what happened while nobody listened must now be fetched over REST."""

    reason: str


@dataclass(frozen=True)
class CommandDocument:
    """A command, signed or not: to be checked."""

    document: str


@dataclass(frozen=True)
class ConfigUpdate:
    """A change of configuration, signed or not: to be checked."""

    document: str


@dataclass(frozen=True)
class Maintenance:
    """A maintenance window, signed or not: to be checked."""

    document: str


@dataclass(frozen=True)
class CommandRefused:
    """A command that came where none are obeyed, or that cannot be signed."""

    command: str
    request_id: str
    reason: str


@dataclass(frozen=True)
class ClientEvent:
    """A `client-` event of another subscriber of a private or presence channel; `data` is as it came."""

    channel: str
    name: str
    data: JsonValue


@dataclass(frozen=True)
class PeerError:
    """The server complains about what was sent, and stays on the line."""

    code: int | None
    message: str


@dataclass(frozen=True)
class Malformed:
    """Something came that is not of the protocol; it was dropped."""

    reason: str


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class User(_Payload):
    """A customer as the server knows him."""

    id: Identifier
    name: Text = ""
    balance: float = 0.0


class SessionAuthorized(_Payload):
    """`session.authorized`: a customer's app has opened a session at this machine."""

    user: User
    session_id: Identifier = ""
    """Empty from a server that answers a machine's own offer."""
    offer_id: Text = ""
    """Of the machine's offer that was scanned; empty from a server that knows none."""


class ItemProcessed(_Payload):
    """`item.processed`: the server's result for an item."""

    session_id: Identifier
    accepted: bool
    item_type: Text | None = None
    points_awarded: int = 0
    rejection_reason: Text | None = None


class UiUpdate(_Payload):
    """`ui.update`: something to show."""

    type: Text
    payload: JsonValue = None


Event = Union[  # noqa: UP007  # evaluated at run time, also by Python 3.10
    LineChanged, CatchUp, CommandDocument, ConfigUpdate, Maintenance, CommandRefused, ClientEvent, PeerError, Malformed,
    SessionAuthorized, ItemProcessed, UiUpdate,
]  # fmt: skip

_DOCUMENTS: dict[str, Callable[[str], Event]] = {
    "command": CommandDocument,
    "config_update": ConfigUpdate,
    "maintenance": Maintenance,
}
_HARMLESS: dict[str, type[SessionAuthorized] | type[ItemProcessed] | type[UiUpdate]] = {
    "session.authorized": SessionAuthorized,
    "item.processed": ItemProcessed,
    "ui.update": UiUpdate,
}
UNSIGNED_COMMAND = "hardware.command"


def interpret(name: str, data: Any, public: bool) -> Event:
    """The event of that name.

    Args:
        name: as the server sends it.
        data: parsed JSON.
        public: it came over a channel that anybody may listen to, and somebody else may publish to.
    """
    if name == UNSIGNED_COMMAND:
        said = data if isinstance(data, dict) else {}
        return CommandRefused(
            excerpt(said.get("command", "")),
            excerpt(said.get("request_id", "")),
            "not supported: it is not signed; use a signed command or the signed update",
        )
    if name in _DOCUMENTS:
        if public:
            return CommandRefused(name, "", "a public channel carries no commands")
        document = data.get("document") if isinstance(data, dict) else data
        if not isinstance(document, str) or not document:
            return Malformed(f"event {name} without a document")
        return _DOCUMENTS[name](document)
    if name in _HARMLESS:
        try:
            return _HARMLESS[name].model_validate(data)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            return Malformed(f"event {name}: {where or 'data'}: {problem['msg']}"[:EXCERPT_CHARACTERS])
    return Malformed(f"event {excerpt(name)!r} is not known")


def excerpt(value: object) -> str:
    """A stranger's text for a log: short and printable."""
    text = str(value)[:EXCERPT_CHARACTERS]
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
