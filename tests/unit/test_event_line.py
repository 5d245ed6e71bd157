from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from event_server import API_KEY, LIMIT_S, PRESENCE, PRIVATE, PUBLIC, EventServer, Listener
from fault_proxy import FaultProxy
from myrvm_cloud.event_line import QUEUE_EVENTS, EventLine, Leave
from myrvm_cloud.event_protocol import DEFAULT_TIMES, EventProtocol, LineTimes
from myrvm_cloud.events import (
    CatchUp,
    ClientEvent,
    CommandDocument,
    CommandRefused,
    LineState,
    Malformed,
    SessionAuthorized,
)
from myrvm_cloud.pusher import Pusher
from myrvm_cloud.raw_events import RawEvents
from myrvm_cloud.reconnect import Reconnect
from myrvm_core.backoff import Backoff
from myrvm_core.errors import RvmError, ServerError
from myrvm_sim.reverb import ReverbFaults
from websockets.asyncio.server import ServerConnection, serve

QUICK = LineTimes(establish_s=0.5, quiet_s=0.2, pong_s=0.2, confirm_s=0.2, authorize_s=1.0)
LOG = structlog.get_logger()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[EventServer]:
    async with EventServer() as made:
        yield made


def line(
    protocol: Callable[[], EventProtocol],
    ask: Any = None,
    tls: ssl.SSLContext | None = None,
    slow_s: float = 60.0,
) -> EventLine:
    reconnect = Reconnect(Backoff(0.05, 0.1), 60.0, slow_s, random.Random(1))
    return EventLine(protocol, ask, tls or ssl.create_default_context(), reconnect, LOG, open_timeout_s=25.0)


def raw(server: EventServer, port: int = 0, times: LineTimes = DEFAULT_TIMES) -> EventLine:
    url = server.ws_url.replace(str(server.port), str(port or server.port))
    return line(lambda: RawEvents(f"{url}/ws/m1", API_KEY, times=times))


def pusher(
    server: EventServer,
    *channels: str,
    port: int = 0,
    times: LineTimes = DEFAULT_TIMES,
    ask: Any = None,
) -> EventLine:
    url = server.ws_url.replace(str(server.port), str(port or server.port))
    return line(lambda: Pusher(url, "demo-app", channels, times, random.Random(1)), ask or server.ask_leave)


# What comes


async def test_raw_events_come_and_the_line_comes_back_by_itself(server: EventServer) -> None:
    async with Listener(raw(server)) as heard:
        await heard.caught_up(1)
        assert await server.raw.send("m1", "command", "a.b.c") == 1
        await heard.heard(CommandDocument("a.b.c"))
        await server.raw.close_all(1012)
        await heard.caught_up(2)
        await server.raw.send("m1", "command", "d.e.f")
        await heard.heard(CommandDocument("d.e.f"))
        assert heard.states[:4] == [
            LineState.CONNECTING,
            LineState.SUBSCRIBED,
            LineState.OFFLINE,
            LineState.CONNECTING,
        ]


async def test_reverb_private_presence_and_public_channels(server: EventServer) -> None:
    async with Listener(pusher(server, PUBLIC, PRIVATE, PRESENCE)) as heard:
        await heard.state(LineState.SUBSCRIBED)
        await server.reverb.publish(PRIVATE, "command", {"document": "a.b.c"})
        await heard.heard(CommandDocument("a.b.c"))
        await server.reverb.publish(PUBLIC, "hardware.command", {"command": "RESTART", "request_id": "r1"})
        await server.reverb.publish(PUBLIC, "session.authorized", {"session_id": "s", "user": {"id": 1}})
        await heard.until(lambda: any(isinstance(event, SessionAuthorized) for event in heard.events))
        assert [event.command for event in heard.events if isinstance(event, CommandRefused)] == ["RESTART"]
        first = {peer.socket_id for peer in server.reverb.peers}
        await server.reverb.close_all(4200)
        await heard.caught_up(6)
        assert heard.line.state is LineState.SUBSCRIBED
        assert not first & {peer.socket_id for peer in server.reverb.peers}
        assert [server.reverb.subscribers(channel) for channel in (PUBLIC, PRIVATE, PRESENCE)] == [1, 1, 1]


async def test_client_events_go_from_line_to_line(server: EventServer) -> None:
    async with Listener(pusher(server, PRIVATE)) as one, Listener(pusher(server, PRIVATE, PUBLIC)) as two:
        await one.state(LineState.SUBSCRIBED)
        await two.state(LineState.SUBSCRIBED)
        one.line.send_client_event(PRIVATE, "client-hello", {"a": 1})
        hello = ClientEvent(PRIVATE, "client-hello", {"a": 1})
        await two.until(lambda: hello in two.events, 15.0)  # long before the next ping takes it along
        with pytest.raises(ServerError, match="allowed"):
            two.line.send_client_event(PUBLIC, "client-hello", {})
    with pytest.raises(ServerError, match="no connection"):
        one.line.send_client_event(PRIVATE, "client-hello", {})


@pytest.mark.parametrize("nonsense", ["{", "[" * 40_000, '{"event":"command","event":"x"}', b"\x00", "x" * 66_000])
async def test_nonsense_is_said_and_the_line_stays(nonsense: str | bytes) -> None:
    async def say(socket: ServerConnection) -> None:
        await socket.send(nonsense)
        await socket.send('{"event":"command","data":"a.b.c"}')
        await socket.wait_closed()

    async with serve(say, "127.0.0.1", 0) as strange:
        port = next(iter(strange.sockets)).getsockname()[1]
        async with Listener(line(lambda: RawEvents(f"ws://127.0.0.1:{port}", API_KEY))) as heard:
            await heard.heard(CommandDocument("a.b.c"))
            assert sum(isinstance(event, Malformed) for event in heard.events) == 1
            assert heard.line.connections == 1


async def test_a_flood_of_one_huge_message_or_no_utf8_ends_the_connection_not_the_line(server: EventServer) -> None:
    said = 0

    async def say(socket: ServerConnection) -> None:
        nonlocal said
        said += 1
        if said == 1:
            await socket.send("x" * 1_000_000)
        elif said == 2:
            await socket.send(b"\xff\xfe", text=True)
        else:
            await socket.send('{"event":"command","data":"a.b.c"}')
        await socket.wait_closed()

    async with serve(say, "127.0.0.1", 0) as strange:
        port = next(iter(strange.sockets)).getsockname()[1]
        async with Listener(line(lambda: RawEvents(f"ws://127.0.0.1:{port}", API_KEY))) as heard:
            await heard.heard(CommandDocument("a.b.c"))
            assert heard.line.connections == 3


async def test_garbage_between_events_loses_none(server: EventServer) -> None:
    async with Listener(pusher(server, PRIVATE)) as heard:
        await heard.state(LineState.SUBSCRIBED)
        await server.reverb.break_it(ReverbFaults(garbage=True))
        for number in range(5):
            await server.reverb.publish(PRIVATE, "command", f"{number}.b.c")
        await heard.heard(CommandDocument("4.b.c"))
        commands = [event for event in heard.events if isinstance(event, CommandDocument)]
        assert commands == [CommandDocument(f"{number}.b.c") for number in range(5)]


async def test_a_consumer_that_is_behind_is_told_to_catch_up(server: EventServer) -> None:
    behind = raw(server)
    running = asyncio.ensure_future(behind.run())
    while behind.state is not LineState.SUBSCRIBED:
        await asyncio.sleep(0.01)
    for number in range(QUEUE_EVENTS + 50):
        await server.raw.send("m1", "command", f"{number}")
    while behind.dropped < 53:  # with the three events of the connection itself
        await asyncio.sleep(0.01)
    taken = [await behind.__anext__() for _ in range(QUEUE_EVENTS)]
    assert not any(isinstance(event, CatchUp) and "taken" in event.reason for event in taken)
    assert await behind.__anext__() == CatchUp("more events came than were taken")
    await server.raw.send("m1", "command", "last")
    assert await asyncio.wait_for(behind.__anext__(), LIMIT_S) == CommandDocument("last")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# Losing and finding the server


async def test_a_half_open_line_is_noticed_though_tcp_is_silent(server: EventServer) -> None:
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        for made in (raw(server, proxy.port, QUICK), pusher(server, PRIVATE, port=proxy.port, times=QUICK)):
            async with Listener(made) as heard:
                await heard.state(LineState.SUBSCRIBED)
                proxy.freeze()
                await heard.state(LineState.OFFLINE, LineState.CONNECTING)
                assert any("nothing heard" in getattr(event, "reason", "") for event in heard.events)
                before = heard.line.connections
                proxy.thaw()
                await heard.state(LineState.SUBSCRIBED)
                assert heard.line.connections > before


async def test_a_quiet_line_is_kept_alive_by_pings(server: EventServer) -> None:
    """The next ping goes out only when the one before was answered."""
    times = LineTimes(quiet_s=0.1, pong_s=20.0)
    for made, pings in (
        (raw(server, 0, times), lambda: server.raw.pings),
        (pusher(server, PRIVATE, times=times), lambda: server.reverb.pings),
    ):
        async with Listener(made) as heard:
            await heard.until(lambda pings=pings: pings() >= 4, 15.0)
            assert heard.line.connections == 1


async def test_a_server_that_freezes_is_left(server: EventServer) -> None:
    async with Listener(pusher(server, PUBLIC, times=QUICK)) as heard:
        await heard.state(LineState.SUBSCRIBED)
        await server.reverb.break_it(ReverbFaults(frozen=True))
        await heard.until(lambda: heard.line.connections > 1)
        await server.reverb.break_it(ReverbFaults())
        await heard.state(LineState.SUBSCRIBED)


async def test_a_server_that_says_no_welcome_is_left(server: EventServer) -> None:
    await server.reverb.break_it(ReverbFaults(no_welcome=True))
    async with Listener(pusher(server, PUBLIC, times=QUICK)) as heard:
        await heard.until(lambda: "no word from the server" in heard.line.reason)
        await server.reverb.break_it(ReverbFaults())
        await heard.state(LineState.SUBSCRIBED)


async def test_cuts_refusals_and_restarts_are_survived(server: EventServer) -> None:
    async with (
        FaultProxy("127.0.0.1", server.port) as proxy,
        Listener(pusher(server, PRIVATE, port=proxy.port)) as heard,
    ):
        await heard.caught_up(1)
        proxy.cut()
        await heard.caught_up(2)
        await proxy.refuse()
        await heard.state(LineState.OFFLINE)
        await proxy.listen()
        await heard.caught_up(3)
        await server.stop()
        await heard.state(LineState.OFFLINE)
        await server.start()
        await heard.caught_up(4)
        await server.reverb.publish(PRIVATE, "command", "a.b.c")
        await heard.heard(CommandDocument("a.b.c"))


async def test_a_subscription_that_is_not_confirmed_is_an_alarm_until_it_is(server: EventServer) -> None:
    await server.reverb.break_it(ReverbFaults(no_confirmation=True))
    made = pusher(server, PUBLIC, times=LineTimes(confirm_s=0.1))
    async with Listener(made) as heard:
        await heard.state(LineState.ALARM)
        await server.reverb.break_it(ReverbFaults())
        await heard.state(LineState.SUBSCRIBED)
        assert heard.line.connections == 1


async def test_a_refused_subscription_is_an_alarm_and_leaves_the_connection_alone(server: EventServer) -> None:
    await server.reverb.break_it(ReverbFaults(refuse_subscriptions=True))
    async with Listener(pusher(server, PRIVATE)) as heard:
        await heard.state(LineState.ALARM)
        assert "answered 403" in heard.line.reason

    async def forged(channel: str, socket_id: str) -> Leave:
        return Leave("demo-app:" + "0" * 64)

    await server.reverb.break_it(ReverbFaults())
    async with Listener(pusher(server, PRIVATE, ask=forged)) as heard:
        await heard.state(LineState.ALARM)
        assert "Connection is unauthorized" in heard.line.reason
        assert heard.line.connections == 1


async def test_close_codes_are_obeyed(server: EventServer) -> None:
    async with Listener(pusher(server, PUBLIC)) as heard:
        await heard.caught_up(1)
        await server.reverb.close_all(4001)
        await heard.state(LineState.REFUSED)
        assert heard.line.connections == 1
        heard.line.retry_now()
        await heard.caught_up(2)
        await server.reverb.close_all(4202)
        await heard.caught_up(3)


async def test_an_application_that_does_not_exist_is_refused(server: EventServer) -> None:
    async with Listener(line(lambda: Pusher(server.ws_url, "other", (PUBLIC,)))) as heard:
        await heard.state(LineState.REFUSED)
        assert "4001" in heard.line.reason
        await asyncio.sleep(0.3)
        assert heard.line.connections == 1


async def test_what_cannot_be_configured_is_refused_until_it_changes(server: EventServer) -> None:
    urls = ["nonsense://x", f"{server.ws_url}/ws/m1"]

    def make() -> EventProtocol:
        if len(urls) == 3:
            raise RvmError("no token")
        return RawEvents(urls[0], API_KEY)

    made = line(make)
    async with Listener(made) as heard:
        await heard.state(LineState.REFUSED)
        assert "nonsense" not in heard.line.reason
        urls.pop(0)
        made.retry_now()
        await heard.state(LineState.SUBSCRIBED)


# Answers that are no WebSocket


@pytest.mark.parametrize(
    ("status", "headers", "state"),
    [
        (401, {}, LineState.REFUSED),
        (404, {}, LineState.REFUSED),
        (302, {"Location": "TARGET"}, LineState.OFFLINE),
        (200, {}, LineState.OFFLINE),
        (502, {}, LineState.OFFLINE),
        (503, {"Retry-After": "40"}, LineState.OFFLINE),
        (429, {"Retry-After": "x"}, LineState.OFFLINE),
    ],
)
async def test_other_answers(status: int, headers: dict[str, str], state: LineState, server: EventServer) -> None:
    tries: list[float] = []

    async def answer(_: web.Request) -> web.Response:
        tries.append(asyncio.get_running_loop().time())
        given = {name: value.replace("TARGET", f"{server.url}/ws/m1") for name, value in headers.items()}
        return web.Response(status=status, headers=given, text="<html>Welcome</html>")

    application = web.Application()
    application.add_routes([web.get("/{any:.*}", answer)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made = line(lambda: RawEvents(f"ws://127.0.0.1:{runner.addresses[0][1]}", API_KEY))
    with structlog.testing.capture_logs() as written:
        async with Listener(made) as heard:
            await heard.state(state)
    assert written[0]["retry_s"] >= (40.0 if "40" in headers.values() else 0.0)
    tries.clear()
    async with Listener(made) as heard:
        await heard.until(lambda: len(tries) > 0)
        await heard.state(state)
        if state is LineState.REFUSED or "40" in headers.values():
            await asyncio.sleep(0.3)
            assert len(tries) == 1
        else:
            await heard.until(lambda: len(tries) > 1)
    assert server.raw.accepted == 0
    await runner.cleanup()


# Secrets, TLS, proxies, addresses


async def test_the_token_is_in_no_log(server: EventServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = API_KEY
    urls = [f"{server.ws_url}/ws/m1", f"ws://127.0.0.1:1/ws/{1}", "ws://[nonsense", f"{server.ws_url}/nowhere"]
    for url in urls:
        for in_url in (False, True):
            with structlog.testing.capture_logs() as written:
                made = line(lambda url=url, in_url=in_url: RawEvents(url, token, token_in_url=in_url))
                async with Listener(made) as heard:
                    await heard.until(lambda: heard.line.state not in (LineState.CONNECTING,) and bool(heard.events))
                    await server.raw.close_all(1012)
                    await heard.until(lambda: bool(written))
                assert token not in repr((written, heard.events, heard.line, made))
    assert token not in caplog.text


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side and a client's side that trusts it alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


async def test_tls_is_checked_with_the_context_that_is_given(tmp_path: Path) -> None:
    server_side, client_side = certificate(tmp_path, "one")
    _, other = certificate(tmp_path, "two")
    async with EventServer(tls=server_side) as server:
        make = lambda: RawEvents(f"{server.ws_url}/ws/m1", API_KEY)  # noqa: E731
        async with Listener(line(make, tls=client_side)) as heard:
            await heard.state(LineState.SUBSCRIBED)
        async with Listener(line(make, tls=other)) as heard:
            await heard.until(lambda: "CERTIFICATE_VERIFY_FAILED" in heard.line.reason)
            assert heard.line.connections == 0


async def test_a_proxy_named_by_the_environment_is_used(server: EventServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.decode().split("\r\n")[0])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    monkeypatch.setenv("https_proxy", f"http://user:secret-of-proxy@127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("no_proxy", "")
    made = line(lambda: RawEvents(f"ws://server.invalid:{server.port}/ws/m1", API_KEY))
    async with Listener(made) as heard:
        await heard.state(LineState.SUBSCRIBED)
        assert asked == [f"CONNECT server.invalid:{server.port} HTTP/1.1"]
    monkeypatch.setenv("https_proxy", "http://user:secret-of-proxy@")
    with structlog.testing.capture_logs() as written:
        async with Listener(made) as heard:
            await heard.state(LineState.REFUSED)
            assert "secret-of-proxy" not in repr((written, heard.events))
            assert {entry["log_level"] for entry in written} == {"warning"}
    monkeypatch.setenv("no_proxy", "server.invalid")
    async with Listener(made) as heard:
        await heard.until(lambda: "gaierror" in heard.line.reason)
    assert len(asked) == 1
    proxy.close()


async def test_a_server_that_has_ipv6_only_is_reached() -> None:
    try:
        server = await EventServer(host="::1").__aenter__()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    async with Listener(pusher(server, PRIVATE)) as heard:
        await heard.state(LineState.SUBSCRIBED)
    await server.stop()


async def test_it_ends_and_leaves_nothing_behind(server: EventServer) -> None:
    before = asyncio.all_tasks()
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        for frozen in (False, True):
            listener = Listener(pusher(server, PRIVATE, port=proxy.port))
            async with listener as heard:
                await heard.state(LineState.SUBSCRIBED)
                if frozen:
                    proxy.freeze()
            proxy.thaw()
        proxy.cut()
    await asyncio.sleep(0.1)
    left = [task for task in asyncio.all_tasks() - before if "event_line" in repr(task)]
    assert left == []
