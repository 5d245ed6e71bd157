"""Pusher Channels protocol 7, the client's side, as Laravel Reverb speaks it. No I/O.

Sources: Pusher Channels Protocol (pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol), and
laravel/reverb, src/Protocols/Pusher. Where they differ the machine bears both: Reverb reports a refused subscription
as an error 4009 that names no channel, and leaves the socket open after errors that Pusher closes it with.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote, urlencode

from myrvm_core.backoff import Backoff
from myrvm_core.errors import ServerError, SettingsError

from myrvm_cloud.event_protocol import DEFAULT_TIMES, Authorize, EventProtocol, LineTimes, Retry, SendText, parse
from myrvm_cloud.events import CatchUp, ClientEvent, LineState, PeerError, excerpt, interpret

PROTOCOL = 7
CLIENT_EVENT_BYTES = 10_000
CLIENT_EVENTS_A_SECOND = 10
NAME_CHARACTERS = 200
SHORTEST_QUIET_S = 1.0
RESUBSCRIBE = Backoff(5.0, 60.0)
UNAUTHORIZED = 4009
INVALID_MESSAGE = 4200
_CHANNEL = re.compile(r"[A-Za-z0-9_\-=@,.;]{1,164}")  # as Pusher allows
_SOCKET_ID = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
_SECRET = re.compile(r"[\x21-\x7e]{1,1000}")


class _Step(Enum):
    WAITING = "for its next try"
    AUTHORIZING = "leave is asked for"
    SENT = "not confirmed yet"
    CONFIRMED = "confirmed"


@dataclass
class _Subscription:
    """One channel.

    `since_s`: when it came to this step, or, while it waits, when the wait ends. `sent`: the server was asked and has
    not refused: it may confirm late, and its events count.
    """

    channel: str
    step: _Step = _Step.WAITING
    since_s: float = 0.0
    failures: int = 0
    sent: bool = False

    @property
    def public(self) -> bool:
        return not self.channel.startswith(("private-", "presence-"))


class Pusher(EventProtocol):
    """One connection.

    Args:
        url: ws:// or wss:// of the server, without /app and without a query.
        app_key: names the application; no secret.
        channels: to listen to. Private and presence ones are asked leave for.
        generator: of the waits between two subscriptions.

    Raises:
        SettingsError: a channel's name is not one, or there is none.
    """

    def __init__(
        self,
        url: str,
        app_key: str,
        channels: Sequence[str],
        times: LineTimes = DEFAULT_TIMES,
        generator: random.Random | None = None,
    ) -> None:
        query = urlencode({"protocol": PROTOCOL, "client": "myrvm-edge", "version": "1.0", "flash": "false"})
        super().__init__(f"{url.rstrip('/')}/app/{quote(app_key, safe='')}?{query}", {}, times)
        for channel in channels:
            if not _CHANNEL.fullmatch(channel):
                raise SettingsError(f"channel {channel!r}; allowed: 1 to 164 of A-Z a-z 0-9 _ - = @ , . ;")
        if not channels or len(set(channels)) < len(channels):
            raise SettingsError(f"channels {', '.join(channels) or 'missing'}; allowed: one or more, each once")
        self._subscriptions = {channel: _Subscription(channel) for channel in channels}
        self._generator = generator or random.Random()
        self._client_events: deque[float] = deque(maxlen=CLIENT_EVENTS_A_SECOND)
        self.socket_id = ""

    # In

    def authorized(self, channel: str, socket_id: str, auth: str, channel_data: str | None, now_s: float) -> None:
        """The server gives leave: what its /broadcasting/auth has answered."""
        subscription = self._asked(channel, socket_id)
        if subscription is None:
            return
        if not _SECRET.fullmatch(auth):
            self.not_authorized(channel, socket_id, "the leave that the server gave is no auth string", now_s)
        else:
            self._subscribe(subscription, now_s, auth=auth, channel_data=channel_data)

    def not_authorized(self, channel: str, socket_id: str, reason: str, now_s: float) -> None:
        """The server gives no leave, or was not reached."""
        subscription = self._asked(channel, socket_id)
        if subscription is not None:
            self._failed(subscription, reason, now_s)

    def send_client_event(self, channel: str, name: str, data: Any, now_s: float) -> None:
        """Tell the other subscribers of a private or presence channel.

        Raises:
            ServerError: not on this channel, not under this name, too large, too many, or not subscribed now.
        """
        subscription = self._subscriptions.get(channel)
        if subscription is None or subscription.public or subscription.step is not _Step.CONFIRMED:
            raise ServerError(f"client event on {channel}: allowed on subscribed private and presence channels")
        if not name.startswith("client-"):
            raise ServerError(f"client event {name!r}: allowed: a name that begins with client-")
        frame = _frame(name, data, channel)
        if len(frame.encode()) > CLIENT_EVENT_BYTES:
            raise ServerError(f"client event {name} of {len(frame.encode())} bytes; allowed: {CLIENT_EVENT_BYTES}")
        sent = self._client_events
        if len(sent) == CLIENT_EVENTS_A_SECOND and now_s < sent[0] + 1.0:
            raise ServerError(f"client event {name}: more than {CLIENT_EVENTS_A_SECOND} in a second")
        sent.append(now_s)
        self._actions.append(SendText(frame))

    # EventProtocol

    def _begin(self, now_s: float) -> None:
        """The server speaks first."""

    def _ping(self) -> None:
        self._actions.append(SendText(_frame("pusher:ping", {})))

    def _judge(self, code: int | None) -> Retry:
        return _retry(code or 0)

    def _next_due_s(self) -> float:
        if not self._established:
            return math.inf
        return min((self._limit_s(subscription) for subscription in self._subscriptions.values()), default=math.inf)

    def _due(self, now_s: float) -> None:
        if not self._established:
            return
        for subscription in self._subscriptions.values():
            if now_s < self._limit_s(subscription):
                continue
            if subscription.step is _Step.WAITING:
                self._ask(subscription, now_s)
            elif subscription.step is _Step.AUTHORIZING:
                self._failed(subscription, f"no leave within {self._times.authorize_s:g} s", now_s)
            else:
                self._failed(subscription, f"not confirmed within {self._times.confirm_s:g} s", now_s)

    def _understand(self, name: str, frame: dict[str, Any], now_s: float) -> None:
        channel = frame.get("channel")
        if len(name) > NAME_CHARACTERS or not (channel is None or isinstance(channel, str)):
            raise ServerError("an event whose name or channel is none")
        if name == "pusher:ping":
            self._actions.append(SendText(_frame("pusher:pong", {})))
        elif name == "pusher:connection_established":
            self._connection_established(_object(frame), now_s)
        elif name == "pusher:error":
            self._error(_object(frame), now_s)
        elif name in ("pusher_internal:subscription_succeeded", "pusher:subscription_succeeded"):
            self._confirmed(self._subscribed(channel), now_s)
        elif name == "pusher:subscription_error":
            said = _object(frame)
            reason = f"{said.get('status', '')} {said.get('error', '')}".strip()
            self._refused(self._subscribed(channel), excerpt(reason), now_s)
        elif name.startswith(("pusher:", "pusher_internal:")):
            return  # pong, members of a presence channel, cache: of no use here; a newer server may send more
        else:
            subscription = self._subscribed(channel)
            if name.startswith("client-"):
                if subscription.public:
                    raise ServerError("a client event on a public channel")
                self._events.append(ClientEvent(subscription.channel, name, _data(frame)))
            else:
                self._events.append(interpret(name, _data(frame), subscription.public))

    # The protocol's own

    def _connection_established(self, said: dict[str, Any], now_s: float) -> None:
        socket_id, quiet_s = said.get("socket_id"), said.get("activity_timeout")
        if self._established or not isinstance(socket_id, str) or not _SOCKET_ID.fullmatch(socket_id):
            raise ServerError("connection_established twice, or without a socket_id")
        self.socket_id, self._established = socket_id, True
        if isinstance(quiet_s, (int, float)) and not isinstance(quiet_s, bool):
            self._quiet_s = min(self._quiet_s, max(SHORTEST_QUIET_S, quiet_s))
        self._say(LineState.CONNECTED)
        for subscription in self._subscriptions.values():
            self._ask(subscription, now_s)

    def _error(self, said: dict[str, Any], now_s: float) -> None:
        """An error in band. Before the connection is established it is the server's no."""
        code, message = said.get("code"), excerpt(said.get("message", ""))
        if not isinstance(code, int) or isinstance(code, bool):
            code = None
        if not self._established:
            retry = Retry.BACK_OFF if code == INVALID_MESSAGE else _retry(code or 0)
            self._give_up(f"refused by the server with {code}: {message}", retry)
        elif code == UNAUTHORIZED and (unconfirmed := self._oldest_sent()) is not None:
            self._refused(unconfirmed, message, now_s)
        elif code is None or code in (UNAUTHORIZED, INVALID_MESSAGE) or not 4000 <= code < 4300:
            self._events.append(PeerError(code, message))
        else:
            self._give_up(f"sent away by the server with {code}: {message}", _retry(code))

    def _ask(self, subscription: _Subscription, now_s: float) -> None:
        if subscription.public:
            self._subscribe(subscription, now_s)
        else:
            subscription.step, subscription.since_s = _Step.AUTHORIZING, now_s
            self._actions.append(Authorize(subscription.channel, self.socket_id))

    def _asked(self, channel: str, socket_id: str) -> _Subscription | None:
        """The subscription that waits for this leave; None where it no longer does."""
        subscription = self._subscriptions.get(channel)
        if not self._open or socket_id != self.socket_id or subscription is None:
            return None
        return subscription if subscription.step is _Step.AUTHORIZING else None

    def _subscribe(self, subscription: _Subscription, now_s: float, **proof: str | None) -> None:
        subscription.step, subscription.since_s, subscription.sent = _Step.SENT, now_s, True
        data = {"channel": subscription.channel} | {name: text for name, text in proof.items() if text is not None}
        self._actions.append(SendText(_frame("pusher:subscribe", data)))

    def _confirmed(self, subscription: _Subscription, now_s: float) -> None:
        if subscription.step is _Step.CONFIRMED:
            return
        subscription.step, subscription.since_s, subscription.failures = _Step.CONFIRMED, now_s, 0
        if all(other.step is _Step.CONFIRMED for other in self._subscriptions.values()):
            self._say(LineState.SUBSCRIBED)
        self._events.append(CatchUp(f"subscribed to {subscription.channel}"))

    def _failed(self, subscription: _Subscription, reason: str, now_s: float) -> None:
        """No events come over this channel: say so, and try again."""
        wait_s = RESUBSCRIBE.delay_s(subscription.failures, self._generator)
        subscription.step, subscription.since_s = _Step.WAITING, now_s + wait_s
        subscription.failures += 1
        self._say(LineState.ALARM, f"{subscription.channel}: {reason}")

    def _refused(self, subscription: _Subscription, message: str, now_s: float) -> None:
        subscription.sent = False
        self._failed(subscription, f"refused: {message}", now_s)

    def _limit_s(self, subscription: _Subscription) -> float:
        if subscription.step is _Step.CONFIRMED:
            return math.inf
        allowed = {_Step.AUTHORIZING: self._times.authorize_s, _Step.SENT: self._times.confirm_s}
        return subscription.since_s + allowed.get(subscription.step, 0.0)

    def _oldest_sent(self) -> _Subscription | None:
        """Answers come in the order of questions, so an error without a channel is about the oldest one."""
        sent = [one for one in self._subscriptions.values() if one.step is _Step.SENT and not one.public]
        return min(sent, key=lambda one: one.since_s, default=None)

    def _subscribed(self, channel: str | None) -> _Subscription:
        subscription = self._subscriptions.get(channel or "")
        if subscription is None or not subscription.sent:
            raise ServerError(f"an event on channel {excerpt(channel)!r}, which is not subscribed")
        return subscription


def _retry(code: int) -> Retry:
    """What a close code or error demands (Pusher Channels Protocol, "Connection closure")."""
    if 4000 <= code < 4100:
        return Retry.SLOWLY
    if 4100 <= code < 4200:
        return Retry.BACK_OFF
    return Retry.AT_ONCE if 4200 <= code < 4300 else Retry.SOON


def _frame(name: str, data: Any, channel: str | None = None) -> str:
    made = {"event": name, "data": data} if channel is None else {"event": name, "channel": channel, "data": data}
    return json.dumps(made, separators=(",", ":"), allow_nan=False)


def _data(frame: dict[str, Any]) -> Any:
    """An event's data, which may be JSON inside a JSON string; a string that is no JSON is itself."""
    data = frame.get("data")
    if not isinstance(data, str):
        return data
    try:
        return parse(data)
    except ServerError:
        if data[:1] in "{[":
            raise
        return data


def _object(frame: dict[str, Any]) -> dict[str, Any]:
    data = _data(frame)
    if not isinstance(data, dict):
        raise ServerError("an event of the protocol whose data is no object")
    return data
