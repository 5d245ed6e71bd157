"""A stand-in for a server's raw JSON WebSocket at /ws/{machine}: the token as a header or in the query, faults.

For desk and tests. Anyone who reaches `POST /raw/events` may send to a machine.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web
from pydantic import BaseModel


class Event(BaseModel):
    """Body of `POST /raw/events`."""

    machine: str
    event: str
    data: Any = None


@dataclass
class RawSocket:
    """One server. `token` is every machine's; `header` and `query` say where it is taken from."""

    token: str = field(repr=False)
    header: bool = True
    query: bool = True

    def __post_init__(self) -> None:
        self._sockets: dict[str, set[web.WebSocketResponse]] = {}
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.accepted = self.pings = 0

    def routes(self) -> list[web.RouteDef]:
        """Where it answers."""
        return [web.get("/ws/{machine}", self._connection), web.post("/raw/events", self._publish)]

    def freeze(self, frozen: bool = True) -> None:
        """Half-open: nothing is read or answered while frozen; connections stay."""
        if frozen:
            self._thawed.clear()
        else:
            self._thawed.set()

    async def send(self, machine: str, event: str, data: Any) -> int:
        """Send to all connections of a machine; returns how many."""
        return await self.send_text(machine, json.dumps({"event": event, "data": data}))

    async def send_text(self, machine: str, text: str) -> int:
        """The same, with any text."""
        sockets = list(self._sockets.get(machine, ()))
        await asyncio.gather(*(socket.send_str(text) for socket in sockets))
        return len(sockets)

    async def close_all(self, code: int) -> None:
        """Close every connection with a code."""
        sockets = [socket for machine in self._sockets.values() for socket in machine]
        await asyncio.gather(*(socket.close(code=code) for socket in sockets))

    async def _publish(self, request: web.Request) -> web.Response:
        said = Event.model_validate_json(await request.read())
        return web.json_response({"sent": await self.send(said.machine, said.event, said.data)})

    async def _connection(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ") if self.header else ""
        given = given or (request.query.get("token", "") if self.query else "")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return web.json_response({"status": "error", "message": "the token is not known"}, status=401)
        socket = web.WebSocketResponse(autoping=False, max_msg_size=65_536, compress=False)
        await socket.prepare(request)
        self.accepted += 1
        sockets = self._sockets.setdefault(request.match_info["machine"], set())
        sockets.add(socket)
        try:
            while True:
                message = await socket.receive()
                await self._thawed.wait()
                if message.type is WSMsgType.PING:
                    self.pings += 1
                    await socket.pong(message.data)
                elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                    return socket
        finally:
            sockets.discard(socket)
