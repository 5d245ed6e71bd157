"""A stand-in for Laravel Reverb: Pusher protocol 7 at /app/{key}, /broadcasting/auth, and faults. For desk and tests.

It behaves as laravel/reverb does (src/Protocols/Pusher; errors in band with the socket left open, 4201 after a ping
that nobody answers), but takes client events on private and presence channels only, as Pusher does. Anyone who reaches
`POST /reverb/events` and `POST /reverb/faults` may publish and break it. Mounted by `application.add_routes(routes())`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from myrvm_cloud.contract import API_KEY_HEADER, MACHINE_HEADER
from myrvm_core.strict_json import StrictJsonError
from pydantic import BaseModel, ConfigDict, Field

from myrvm_core import strict_json

MESSAGE_BYTES = 10_000
CLIENT_EVENTS_A_SECOND = 10
SEND_LIMIT_S = 2.0
GARBAGE = ("", "{", "[]", "null", '{"event":7}', '{"event":"a","event":"b"}', "NaN", "[" * 1000, "\ufffd", "Maximum")


class ReverbFaults(BaseModel):
    """Body of `POST /reverb/faults`; what is not named is off."""

    model_config = ConfigDict(extra="forbid")

    frozen: bool = False
    """Half-open: nothing is read, answered or sent; connections stay."""
    refuse_subscriptions: bool = False
    no_confirmation: bool = False
    no_welcome: bool = False
    garbage: bool = False
    """Nonsense goes before every event."""
    close_code: int | None = Field(default=None, ge=1000, le=4999)
    """Every connection is closed with it, now and as soon as it is made."""


class Publication(BaseModel):
    """Body of `POST /reverb/events`."""

    channel: str
    event: str
    data: Any = None


@dataclass(eq=False)
class Peer:
    """One connection."""

    socket: web.WebSocketResponse
    socket_id: str
    client_events: deque[float] = field(default_factory=lambda: deque(maxlen=CLIENT_EVENTS_A_SECOND))


@dataclass
class Channel:
    """One channel: its subscribers, each with what the server has said about him (empty: nothing)."""

    members: dict[Peer, dict[str, Any]] = field(default_factory=dict)

    def presence(self) -> dict[str, Any]:
        """Who is here, each user once."""
        users = {member["user_id"]: member.get("user_info", {}) for member in self.members.values()}
        hashed = {str(user): info for user, info in users.items()}
        return {"presence": {"count": len(users), "ids": list(users), "hash": hashed}}


@dataclass
class Reverb:
    """One application's server. `activity_timeout_s` is told to clients, `ping_interval_s` is its own patience."""

    api_key: str = field(repr=False)
    app_key: str = "demo-app"
    app_secret: str = field(default="demo-app-secret", repr=False)
    activity_timeout_s: float = 30.0
    ping_interval_s: float = 60.0
    connection_limit: int = 10_000
    faults: ReverbFaults = field(default_factory=ReverbFaults)

    def __post_init__(self) -> None:
        self.peers: set[Peer] = set()
        self.accepted = self.pings = 0
        self._channels: defaultdict[str, Channel] = defaultdict(Channel)
        self._thawed = asyncio.Event()
        self._thawed.set()

    def routes(self) -> list[web.RouteDef]:
        """Where it answers."""
        return [
            web.get("/app/{key}", self._connection),
            web.post("/broadcasting/auth", self._authorize),
            web.post("/api/broadcasting/auth", self._authorize),
            web.post("/reverb/events", self._publish),
            web.get("/reverb/connections", self._connections),
            web.post("/reverb/faults", self._set_faults),
        ]

    def subscribers(self, channel: str) -> int:
        """How many connections listen to a channel."""
        return len(self._channels[channel].members) if channel in self._channels else 0

    async def publish(self, channel: str, event: str, data: Any, in_string: bool = True) -> int:
        """Send an event to all who listen; returns how many. `in_string`: data is JSON in a string, as Laravel's."""
        frame = {"event": event, "data": json.dumps(data) if in_string else data, "channel": channel}
        return await self._broadcast(channel, frame)

    async def break_it(self, faults: ReverbFaults) -> None:
        """Switch faults on; all others off."""
        self.faults = faults
        if faults.frozen:
            self._thawed.clear()
        else:
            self._thawed.set()
        if faults.close_code is not None:
            await self.close_all(faults.close_code)

    async def close_all(self, code: int) -> None:
        """Close every connection with a code."""
        await asyncio.gather(*(_close(peer, code, "asked for") for peer in list(self.peers)))

    def signature(self, socket_id: str, channel: str, channel_data: str | None) -> str:
        """KEY:HMAC-SHA256(secret, "socket_id:channel[:channel_data]")."""
        signed = ":".join([socket_id, channel, *([channel_data] if channel_data else [])])
        return f"{self.app_key}:{hmac.new(self.app_secret.encode(), signed.encode(), hashlib.sha256).hexdigest()}"

    # HTTP

    async def _authorize(self, request: web.Request) -> web.Response:
        """A machine may join the private and presence channels of its own name."""
        machine = request.headers.get(MACHINE_HEADER, "")
        form = await request.post()
        socket_id, channel = str(form.get("socket_id", "")), str(form.get("channel_name", ""))
        known = hmac.compare_digest(request.headers.get(API_KEY_HEADER, "").encode(), self.api_key.encode())
        own = channel in (f"private-rvm.{machine}", f"presence-rvm.{machine}")
        if not known or not machine or not own or self.faults.refuse_subscriptions:
            return web.json_response({"status": "error", "message": "not your channel"}, status=403)
        if channel.startswith("private-"):
            return web.json_response({"auth": self.signature(socket_id, channel, None)})
        channel_data = json.dumps({"user_id": machine, "user_info": {"name": f"RVM {machine}"}})
        auth = self.signature(socket_id, channel, channel_data)
        return web.json_response({"auth": auth, "channel_data": channel_data})

    async def _publish(self, request: web.Request) -> web.Response:
        said = Publication.model_validate_json(await request.read())
        return web.json_response({"sent": await self.publish(said.channel, said.event, said.data)})

    async def _connections(self, _: web.Request) -> web.Response:
        return web.json_response({"socket_ids": sorted(peer.socket_id for peer in self.peers)})

    async def _set_faults(self, request: web.Request) -> web.Response:
        await self.break_it(ReverbFaults.model_validate_json(await request.read()))
        return web.json_response(self.faults.model_dump())

    # WebSocket

    async def _connection(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False, max_msg_size=65_536, compress=False)
        await socket.prepare(request)
        numbers = random.SystemRandom()
        peer = Peer(socket, f"{numbers.randint(1, 10**9)}.{numbers.randint(1, 10**9)}")
        self.peers.add(peer)
        self.accepted += 1
        try:
            if await self._welcome(peer, request):
                await self._serve(peer)
        except ConnectionError:  # the peer has gone: there is nobody to tell
            return socket
        finally:
            self.peers.discard(peer)
            for channel in [name for name, channel in self._channels.items() if peer in channel.members]:
                await self._leave(peer, channel)
        return socket

    async def _welcome(self, peer: Peer, request: web.Request) -> bool:
        await self._thawed.wait()
        if self.faults.close_code is not None:
            await _close(peer, self.faults.close_code, "asked for")
            return False
        if not hmac.compare_digest(request.match_info["key"].encode(), self.app_key.encode()):
            await _error(peer, 4001, "Application does not exist")
            await _close(peer, 4001, "")
            return False
        if request.query.get("protocol", "7") not in ("5", "6", "7"):
            await _error(peer, 4007, "Unsupported protocol version")
            await _close(peer, 4007, "")
            return False
        if len(self.peers) > self.connection_limit:
            await _error(peer, 4004, "Application is over connection quota")  # and leaves it open, as Reverb does
        elif not self.faults.no_welcome:
            timeout_s = self.activity_timeout_s
            said = {"socket_id": peer.socket_id, "activity_timeout": int(timeout_s) if timeout_s >= 1 else timeout_s}
            await _send(peer, {"event": "pusher:connection_established", "data": json.dumps(said)})
        return True

    async def _serve(self, peer: Peer) -> None:
        """Read until the peer leaves, or does not answer a ping."""
        pinged = False
        while True:
            await self._thawed.wait()
            try:
                message = await peer.socket.receive(self.ping_interval_s)
            except asyncio.TimeoutError:
                if pinged:
                    await _error(peer, 4201, "Pong reply not received in time")
                    await _close(peer, 4201, "")
                    return
                pinged = True
                await _send(peer, {"event": "pusher:ping"})
                continue
            await self._thawed.wait()
            pinged = False
            if message.type is WSMsgType.TEXT:
                await self._take(peer, message.data)
            elif message.type is WSMsgType.PING:
                await peer.socket.pong(message.data)
            elif message.type is WSMsgType.BINARY:
                await _error(peer, 4200, "Invalid message format")
            elif message.type is not WSMsgType.PONG:
                return

    async def _take(self, peer: Peer, text: str) -> None:
        if len(text.encode()) > MESSAGE_BYTES:
            await peer.socket.send_str("Maximum message size exceeded")
            return
        try:
            frame = strict_json.loads(text)
            data = frame.get("data", {})
            if isinstance(data, str):
                data = strict_json.loads(data)
            name = frame["event"]
            if name == "pusher:ping":
                self.pings += 1
                await _send(peer, {"event": "pusher:pong"})
            elif name == "pusher:subscribe":
                await self._subscribe(peer, str(data["channel"]), data.get("auth"), data.get("channel_data"))
            elif name == "pusher:unsubscribe":
                await self._leave(peer, str(data["channel"]))
            elif name.startswith("client-"):
                await self._client_event(peer, name, str(frame["channel"]), frame.get("data"))
            elif name != "pusher:pong":
                raise KeyError(name)
        except (StrictJsonError, KeyError, TypeError, AttributeError):
            await _error(peer, 4200, "Invalid message format")

    async def _subscribe(self, peer: Peer, name: str, auth: Any, channel_data: Any) -> None:
        if self.faults.no_confirmation:
            return
        member: dict[str, Any] = {}
        presence = name.startswith("presence-")
        if presence or name.startswith("private-"):
            expected = self.signature(peer.socket_id, name, channel_data)
            good = isinstance(auth, str) and hmac.compare_digest(auth.encode(), expected.encode())
            if not good or self.faults.refuse_subscriptions:
                await _error(peer, 4009, "Connection is unauthorized")
                return
        if presence:
            member = strict_json.loads(channel_data)
            member = {"user_id": member["user_id"], "user_info": member.get("user_info", {})}
        channel = self._channels[name]
        known = any(other.get("user_id") == member.get("user_id") for other in channel.members.values())
        channel.members[peer] = member
        said = json.dumps(channel.presence() if presence else {})
        await _send(peer, {"event": "pusher_internal:subscription_succeeded", "data": said, "channel": name})
        if presence and not known:
            added = {"event": "pusher_internal:member_added", "data": json.dumps(member), "channel": name}
            await self._broadcast(name, added, peer)

    async def _leave(self, peer: Peer, name: str) -> None:
        if name not in self._channels or peer not in self._channels[name].members:
            return
        channel = self._channels[name]
        user = channel.members.pop(peer).get("user_id")
        if not channel.members:
            del self._channels[name]
        elif user is not None and all(other.get("user_id") != user for other in channel.members.values()):
            data = json.dumps({"user_id": user})
            await self._broadcast(name, {"event": "pusher_internal:member_removed", "data": data, "channel": name})

    async def _client_event(self, peer: Peer, event: str, name: str, data: Any) -> None:
        now_s = asyncio.get_running_loop().time()
        if not name.startswith(("private-", "presence-")):
            await _error(peer, None, "Client event rejected - only supported on private and presence channels")
        elif name not in self._channels or peer not in self._channels[name].members:
            await _error(peer, 4009, "The client is not a member of the specified channel.")
        elif len(peer.client_events) == CLIENT_EVENTS_A_SECOND and now_s < peer.client_events[0] + 1.0:
            await _error(peer, 4301, "Client event rejected due to rate limit")
        else:
            peer.client_events.append(now_s)
            frame = {"event": event, "channel": name, "data": data}
            if user := self._channels[name].members[peer].get("user_id"):
                frame["user_id"] = user
            await self._broadcast(name, frame, peer)

    async def _broadcast(self, name: str, frame: dict[str, Any], but: Peer | None = None) -> int:
        peers = [peer for peer in self._channels[name].members if peer is not but] if name in self._channels else []
        await self._thawed.wait()
        await asyncio.gather(*(self._deliver(peer, frame) for peer in peers))
        return len(peers)

    async def _deliver(self, peer: Peer, frame: dict[str, Any]) -> None:
        """A peer that does not read is dropped: it holds nobody up."""
        try:
            for text in GARBAGE if self.faults.garbage else ():
                await peer.socket.send_str(text)
            await asyncio.wait_for(_send(peer, frame), SEND_LIMIT_S)
        except (asyncio.TimeoutError, ConnectionError):
            await _close(peer, WSCloseCode.TRY_AGAIN_LATER, "too slow")


async def _send(peer: Peer, frame: dict[str, Any]) -> None:
    await peer.socket.send_str(json.dumps(frame, separators=(",", ":")))


async def _error(peer: Peer, code: int | None, message: str) -> None:
    said = json.dumps({"code": code, "message": message}, separators=(",", ":"))
    await _send(peer, {"event": "pusher:error", "data": said})


async def _close(peer: Peer, code: int, message: str) -> None:
    await peer.socket.close(code=code, message=message.encode())
