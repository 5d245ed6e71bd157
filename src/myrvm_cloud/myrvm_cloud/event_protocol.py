"""What the two WebSocket protocols share: one connection as a state machine without sockets and without a clock.

Text and the monotonic time go in; events for the machine and actions for the socket come out. `event_line.py` carries
them. One object serves one connection. It notices by itself that nobody answers any more, whatever TCP believes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Union

from myrvm_core.errors import ServerError, SettingsError
from myrvm_core.strict_json import StrictJsonError

from myrvm_cloud.events import Event, LineChanged, LineState, Malformed, excerpt
from myrvm_core import strict_json

LONGEST_SILENCE_S = 45.0
MESSAGE_CHARACTERS = 65_536
MESSAGE_DEPTH = 16


class Retry(Enum):
    """What the end of a connection demands."""

    AT_ONCE = "at once"
    SOON = "soon"
    BACK_OFF = "not within a second"
    SLOWLY = "not before something has changed"


@dataclass(frozen=True)
class SendText:
    """Send this message."""

    text: str


@dataclass(frozen=True)
class SendPing:
    """Send a WebSocket ping, and tell `pong` when it is answered."""


@dataclass(frozen=True)
class Close:
    """Close the connection; `reason` is for a person here."""

    reason: str


@dataclass(frozen=True)
class Authorize:
    """Ask the server over REST for leave to join a channel, then tell `authorized` or `not_authorized`."""

    channel: str
    socket_id: str


Action = Union[SendText, SendPing, Close, Authorize]  # noqa: UP007  # evaluated at run time, also by Python 3.10


@dataclass(frozen=True)
class LineTimes:
    """Durations in s. A dead line is noticed `quiet_s + pong_s` after the last word.

    Raises:
        SettingsError: that would be `LONGEST_SILENCE_S` or more.
    """

    establish_s: float = 10.0
    quiet_s: float = 25.0
    pong_s: float = 15.0
    confirm_s: float = 5.0
    authorize_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0.0 < self.quiet_s + self.pong_s < LONGEST_SILENCE_S:
            line = f"quiet_s + pong_s = {self.quiet_s + self.pong_s:g}; allowed: less than {LONGEST_SILENCE_S:g}"
            raise SettingsError(line)


DEFAULT_TIMES = LineTimes()


class EventProtocol(ABC):
    """One connection. `url` and `headers` are what to connect with; they hold secrets and are never logged."""

    def __init__(self, url: str, headers: Mapping[str, str], times: LineTimes) -> None:
        self.url = url
        self.headers = headers
        self._times = times
        self._quiet_s = times.quiet_s
        self._actions: list[Action] = []
        self._events: list[Event] = []
        self._open = self._established = False
        self._opened_s = self._heard_s = 0.0
        self._pinged_s: float | None = None
        self._retry: Retry | None = None
        self.reason = ""

    # In

    def opened(self, now_s: float) -> None:
        """The socket is open."""
        self._open = True
        self._opened_s = self._heard_s = now_s
        self._begin(now_s)

    def receive(self, message: str | bytes, now_s: float) -> None:
        """A message came. Never raises, whatever it is."""
        if not self._open:
            return
        self._heard(now_s)
        try:
            if not isinstance(message, str):
                raise ServerError("a binary message")
            frame = parse(message)
            if not isinstance(frame, dict) or not isinstance(frame.get("event"), str):
                raise ServerError("a message without an event's name")
            self._understand(frame["event"], frame, now_s)
        except ServerError as error:
            self._events.append(Malformed(excerpt(str(error))))

    def pong(self, now_s: float) -> None:
        """A ping was answered."""
        self._heard(now_s)

    def tick(self, now_s: float) -> None:
        """Time has passed: see what is due."""
        if not self._open:
            return
        if not self._established and now_s >= self._opened_s + self._times.establish_s:
            self._give_up(f"no word from the server within {self._times.establish_s:g} s", Retry.SOON)
        elif self._pinged_s is not None and now_s >= self._pinged_s + self._times.pong_s:
            self._give_up(f"nothing heard for {now_s - self._heard_s:.0f} s", Retry.SOON)
        else:
            if self._pinged_s is None and now_s >= self._heard_s + self._quiet_s:
                self._pinged_s = now_s
                self._ping()
            self._due(now_s)

    def closed(self, code: int | None) -> Retry:
        """The connection has ended, with this close code of the peer or none; how to go on."""
        self._open = False
        if self._retry is None:
            self._retry = self._judge(code)
            self.reason = f"closed by the server with {code}" if code is not None else "the connection broke"
        return self._retry

    # Out

    @property
    def deadline_s(self) -> float:
        """When to call `tick` at the latest."""
        if not self._open:
            return math.inf
        quiet = self._heard_s + self._quiet_s if self._pinged_s is None else self._pinged_s + self._times.pong_s
        establish = math.inf if self._established else self._opened_s + self._times.establish_s
        return min(quiet, establish, self._next_due_s())

    def take_actions(self) -> list[Action]:
        """What to do now, in order; each is given once."""
        taken, self._actions = self._actions, []
        return taken

    def take_events(self) -> list[Event]:
        """What has happened, in order; each is given once."""
        taken, self._events = self._events, []
        return taken

    # For the protocols

    @abstractmethod
    def _begin(self, now_s: float) -> None: ...

    @abstractmethod
    def _understand(self, name: str, frame: dict[str, Any], now_s: float) -> None:
        """Raises ServerError for what is not of the protocol."""

    @abstractmethod
    def _ping(self) -> None: ...

    @abstractmethod
    def _judge(self, code: int | None) -> Retry: ...

    def _due(self, now_s: float) -> None:  # noqa: B027  # a protocol without timers of its own needs none
        ...

    def _next_due_s(self) -> float:
        return math.inf

    def _heard(self, now_s: float) -> None:
        self._heard_s, self._pinged_s = now_s, None

    def _say(self, state: LineState, reason: str = "") -> None:
        self._events.append(LineChanged(state, reason))

    def _give_up(self, reason: str, retry: Retry) -> None:
        self._open, self._retry, self.reason = False, retry, reason
        self._actions.append(Close(reason))


def parse(text: str) -> Any:
    """JSON within the bounds of a message.

    Raises:
        ServerError: it is not.
    """
    if len(text) > MESSAGE_CHARACTERS:
        raise ServerError(f"a message of {len(text)} characters; allowed: {MESSAGE_CHARACTERS}")
    try:
        return strict_json.loads(text, depth=MESSAGE_DEPTH)
    except StrictJsonError as error:
        raise ServerError(f"a message that is {error}") from None
