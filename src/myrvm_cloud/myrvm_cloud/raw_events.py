"""Raw JSON events over a WebSocket: `{"event": name, "data": ...}` from the server, nothing but pings from the machine.

Names: `command`, `config_update`, `maintenance`, each with a document, and the harmless ones of `events.py`. The
machine's token goes in a header; in the URL only where a server cannot take it there, since URLs end up in logs.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from myrvm_core.errors import SettingsError

from myrvm_cloud.event_protocol import DEFAULT_TIMES, EventProtocol, LineTimes, Retry, SendPing
from myrvm_cloud.events import CatchUp, LineState, interpret

REFUSALS = frozenset({1008, 4401, 4403})
"""Close codes that mean this token or this machine: RFC 6455's policy violation, and HTTP's 401 and 403 past 4000."""


class RawEvents(EventProtocol):
    """One connection.

    Args:
        url: ws:// or wss://, without a query.
        token: of the machine; printable ASCII.
        token_in_url: send it as `?token=`.

    Raises:
        SettingsError: the token cannot be sent.
    """

    def __init__(self, url: str, token: str, token_in_url: bool = False, times: LineTimes = DEFAULT_TIMES) -> None:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise SettingsError("the token of the WebSocket holds a space or is not printable ASCII")
        if token_in_url:
            super().__init__(f"{url}?token={quote(token, safe='')}", {}, times)
        else:
            super().__init__(url, {"Authorization": f"Bearer {token}"} if token else {}, times)

    def _begin(self, now_s: float) -> None:
        self._established = True
        self._say(LineState.SUBSCRIBED)
        self._events.append(CatchUp("connected"))

    def _understand(self, name: str, frame: dict[str, Any], now_s: float) -> None:
        self._events.append(interpret(name, frame.get("data"), public=False))

    def _ping(self) -> None:
        self._actions.append(SendPing())

    def _judge(self, code: int | None) -> Retry:
        return Retry.SLOWLY if code in REFUSALS else Retry.SOON
