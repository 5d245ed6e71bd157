from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from event_server import API_KEY, LIMIT_S, MACHINE, PRESENCE, PRIVATE, PUBLIC, EventServer
from myrvm_sim.reverb import Reverb, ReverbFaults
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed


@pytest_asyncio.fixture
async def server() -> AsyncIterator[EventServer]:
    async with EventServer() as made:
        yield made


class Client:
    """The plainest client: sends and reads JSON."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.socket_id = ""

    async def send(self, event: str, **rest: Any) -> None:
        await self.socket.send(json.dumps({"event": event, **rest}))

    async def read(self) -> dict[str, Any]:
        frame = json.loads(await asyncio.wait_for(self.socket.recv(), LIMIT_S))
        if isinstance(frame.get("data"), str):
            frame["data"] = json.loads(frame["data"])
        return frame

    async def subscribe(self, server: Reverb, channel: str, user: Any = None) -> dict[str, Any]:
        data = {"channel": channel}
        if not channel.startswith("rvm."):
            channel_data = json.dumps({"user_id": user, "user_info": {"n": user}}) if user else None
            data |= {"auth": server.signature(self.socket_id, channel, channel_data)}
            data |= {"channel_data": channel_data} if channel_data else {}
        await self.send("pusher:subscribe", data=data)
        return await self.read()


async def client(server: EventServer, query: str = "?protocol=7", key: str = "demo-app") -> Client:
    return Client(await connect(f"{server.ws_url}/app/{key}{query}"))


async def welcomed(server: EventServer) -> Client:
    made = await client(server)
    made.socket_id = (await made.read())["data"]["socket_id"]
    return made


def test_signatures_are_those_of_pushers_documentation() -> None:
    """Vectors of pusher.com/docs/channels/library_auth_reference/auth-signatures."""
    server = Reverb("", app_key="278d425bdf160c739803", app_secret="7ad3773142a6692b25b8")
    private = server.signature("1234.1234", "private-foobar", None)
    assert private == ("278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4")
    who = '{"user_id":10,"user_info":{"name":"Mr. Channels"}}'
    presence = server.signature("1234.1234", "presence-foobar", who)
    assert presence == ("278d425bdf160c739803:31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80")


async def test_a_connection_is_welcomed_with_an_id_of_its_own(server: EventServer) -> None:
    one, two = await client(server), await client(server)
    said, other = await one.read(), await two.read()
    assert said["event"] == "pusher:connection_established"
    assert said["data"]["activity_timeout"] == 30
    assert said["data"]["socket_id"] != other["data"]["socket_id"]
    await one.send("pusher:ping", data={})
    assert await one.read() == {"event": "pusher:pong"}


@pytest.mark.parametrize(("query", "key", "code"), [("", "other", 4001), ("?protocol=3", "demo-app", 4007)])
async def test_what_it_will_not_have_is_told_and_closed(server: EventServer, query: str, key: str, code: int) -> None:
    refused = await client(server, query, key)
    assert (await refused.read())["data"]["code"] == code
    with pytest.raises(ConnectionClosed) as closed:
        await refused.socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code


async def test_over_its_limit_it_says_so_and_leaves_the_socket_open() -> None:
    async with EventServer(connection_limit=1) as server:
        await welcomed(server)
        assert (await (await client(server)).read())["data"]["code"] == 4004


async def test_public_and_private_channels_carry_what_is_published(server: EventServer) -> None:
    one = await welcomed(server)
    assert await one.subscribe(server.reverb, PUBLIC) == {
        "event": "pusher_internal:subscription_succeeded", "data": {}, "channel": PUBLIC
    }  # fmt: skip
    await one.subscribe(server.reverb, PRIVATE)
    assert await server.reverb.publish(PRIVATE, "command", {"document": "a.b.c"}) == 1
    assert await one.read() == {"event": "command", "data": {"document": "a.b.c"}, "channel": PRIVATE}
    assert await server.reverb.publish(PUBLIC, "ui.update", {"type": "x"}, in_string=False) == 1
    assert (await one.read())["data"] == {"type": "x"}
    await one.send("pusher:unsubscribe", data={"channel": PUBLIC})
    await one.send("pusher:ping")
    await one.read()
    assert await server.reverb.publish(PUBLIC, "ui.update", {}) == 0


@pytest.mark.parametrize("auth", [None, "", "demo-app:00", 7])
async def test_a_wrong_auth_string_is_4009_in_band(server: EventServer, auth: Any) -> None:
    one = await welcomed(server)
    await one.send("pusher:subscribe", data={"channel": PRIVATE, "auth": auth})
    assert (await one.read())["data"] == {"code": 4009, "message": "Connection is unauthorized"}
    assert server.reverb.subscribers(PRIVATE) == 0


async def test_an_auth_string_of_another_connection_is_no_use(server: EventServer) -> None:
    one, two = await welcomed(server), await welcomed(server)
    one.socket_id = two.socket_id
    assert (await one.subscribe(server.reverb, PRIVATE))["data"]["code"] == 4009


async def test_a_presence_channel_tells_who_is_there(server: EventServer) -> None:
    one, two, again = [await welcomed(server) for _ in range(3)]
    await one.subscribe(server.reverb, PRESENCE, 1)
    said = (await two.subscribe(server.reverb, PRESENCE, 2))["data"]["presence"]
    assert said == {"count": 2, "ids": [1, 2], "hash": {"1": {"n": 1}, "2": {"n": 2}}}
    assert (await one.read())["event"] == "pusher_internal:member_added"
    await again.subscribe(server.reverb, PRESENCE, 2)
    await again.socket.close()
    await two.socket.close()
    assert await one.read() == {
        "event": "pusher_internal:member_removed", "data": {"user_id": 2}, "channel": PRESENCE
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "7", '{"event":7}', '{"event":"pusher:x"}', '{"event":"x"}', "{}", '{"event":"client-x"}'),
        *('{"event":"pusher:subscribe"}', '{"event":"pusher:subscribe","data":"x"}', b"binary"),
        '{"event":"pusher:subscribe","data":{"channel":"presence-a","auth":"x","channel_data":7}}',
    ],
)
async def test_nonsense_is_4200_or_4009_and_the_socket_stays(server: EventServer, text: str | bytes) -> None:
    one = await welcomed(server)
    await one.socket.send(text)
    assert (await one.read())["data"]["code"] in (4200, 4009)
    await one.send("pusher:ping")
    assert (await one.read())["event"] == "pusher:pong"


async def test_a_message_beyond_10000_bytes_is_refused(server: EventServer) -> None:
    one = await welcomed(server)
    await one.send("pusher:ping", data="x" * 10_000)
    assert await one.socket.recv() == "Maximum message size exceeded"


async def test_client_events_reach_the_others_and_keep_the_rules(server: EventServer) -> None:
    one, two = await welcomed(server), await welcomed(server)
    for peer, user in ((one, 1), (two, 2)):
        await peer.subscribe(server.reverb, PRESENCE, user)
        await peer.subscribe(server.reverb, PUBLIC)
    await one.read()  # two has come
    await one.send("client-hello", channel=PRESENCE, data={"a": 1})
    assert await two.read() == {"event": "client-hello", "channel": PRESENCE, "data": {"a": 1}, "user_id": 1}
    await one.send("client-hello", channel=PUBLIC, data={})
    assert (await one.read())["data"]["message"].startswith("Client event rejected")
    await one.send("client-hello", channel="private-other", data={})
    assert (await one.read())["data"]["code"] == 4009
    for _ in range(10):
        await one.send("client-hello", channel=PRESENCE, data={})
    assert (await one.read())["data"]["code"] == 4301


async def test_a_silent_client_is_pinged_and_then_sent_away() -> None:
    async with EventServer(ping_interval_s=0.7) as server:
        one = await welcomed(server)
        assert await one.read() == {"event": "pusher:ping"}
        said = await one.read()
        assert said["data"] == {"code": 4201, "message": "Pong reply not received in time"}
        with pytest.raises(ConnectionClosed):
            await one.socket.recv()
        two = await welcomed(server)
        for _ in range(2):
            assert await two.read() == {"event": "pusher:ping"}
            await two.send("pusher:pong", data={})


@pytest.mark.parametrize("path", ["/broadcasting/auth", "/api/broadcasting/auth"])
async def test_a_machine_gets_leave_for_its_own_channels_only(server: EventServer, path: str) -> None:
    async def ask(channel: str, key: str = API_KEY, machine: str = MACHINE) -> tuple[int, Any]:
        headers = {"X-RVM-API-KEY": key, "X-Machine-UUID": machine}
        form = {"channel_name": channel, "socket_id": "1.2"}
        async with session.post(server.url + path, data=form, headers=headers) as answer:
            return answer.status, await answer.json()

    async with aiohttp.ClientSession() as session:
        assert await ask(PRIVATE) == (200, {"auth": server.reverb.signature("1.2", PRIVATE, None)})
        status, said = await ask(PRESENCE)
        assert said["auth"] == server.reverb.signature("1.2", PRESENCE, said["channel_data"])
        assert json.loads(said["channel_data"])["user_id"] == MACHINE
        for refused in (ask("private-rvm.m2"), ask(PUBLIC), ask(PRIVATE, key="x"), ask(PRIVATE, machine="m2")):
            status, _ = await refused
            assert status == 403


async def test_its_faults_can_be_switched_and_off_again(server: EventServer) -> None:
    one = await welcomed(server)
    await one.subscribe(server.reverb, PUBLIC)
    await server.reverb.break_it(ReverbFaults(garbage=True))
    await server.reverb.publish(PUBLIC, "x", {})
    assert await one.socket.recv() == ""
    await server.reverb.break_it(ReverbFaults(no_confirmation=True))
    await one.send("pusher:subscribe", data={"channel": "other"})
    await one.send("pusher:ping")
    await asyncio.wait_for(anext_pong(one), LIMIT_S)
    await server.reverb.break_it(ReverbFaults(frozen=True))
    await one.send("pusher:ping")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(anext_pong(one), 0.3)
    await server.reverb.break_it(ReverbFaults())
    await asyncio.wait_for(anext_pong(one), LIMIT_S)
    assert server.reverb.subscribers("other") == 0
    await server.reverb.break_it(ReverbFaults(close_code=4100))
    with pytest.raises(ConnectionClosed):
        await one.socket.recv()


async def anext_pong(one: Client) -> None:
    while await one.socket.recv() != '{"event":"pusher:pong"}':
        pass


async def test_the_raw_socket_wants_a_token_and_sends_to_one_machine(server: EventServer) -> None:
    async with connect(f"{server.ws_url}/ws/m1?token={API_KEY}") as one:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with connect(f"{server.ws_url}/ws/m2", additional_headers=headers) as two:
            async with aiohttp.ClientSession() as session:
                body = {"machine": "m2", "event": "command", "data": "a.b.c"}
                async with session.post(f"{server.url}/raw/events", json=body) as answer:
                    assert await answer.json() == {"sent": 1}
            assert json.loads(await two.recv()) == {"event": "command", "data": "a.b.c"}
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(one.recv(), 0.1)
    server.raw.query = False
    with pytest.raises(Exception, match="401"):
        await connect(f"{server.ws_url}/ws/m1?token={API_KEY}")
