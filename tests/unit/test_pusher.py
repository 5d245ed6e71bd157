from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from myrvm_cloud.event_protocol import Action, Authorize, Close, Retry, SendText
from myrvm_cloud.events import (
    CatchUp,
    ClientEvent,
    CommandDocument,
    CommandRefused,
    ConfigUpdate,
    Event,
    LineChanged,
    LineState,
    Maintenance,
    Malformed,
    PeerError,
    SessionAuthorized,
)
from myrvm_cloud.pusher import Pusher
from myrvm_core.errors import ServerError, SettingsError

RECORDED = {
    frame["what"]: frame["text"]
    for frame in json.loads((Path(__file__).parents[1] / "pusher_frames.json").read_text())["frames"]
}
PUBLIC, PRIVATE, PRESENCE = "test-channel", "private-test-channel", "presence-test-channel"
SOCKET_ID = "504738291.128364527"
T0 = 1000.0


def machine(*channels: str) -> Pusher:
    protocol = Pusher("wss://server:443", "key", channels or (PUBLIC,), generator=random.Random(1))
    protocol.opened(T0)
    return protocol


def sent(protocol: Pusher) -> list[dict[str, Any]]:
    return [json.loads(action.text) for action in protocol.take_actions() if isinstance(action, SendText)]


def heard(protocol: Pusher, what: str, now_s: float = T0) -> list[Event]:
    protocol.receive(RECORDED[what], now_s)
    return protocol.take_events()


def event(protocol: Pusher, name: str, data: Any, channel: str = PUBLIC, now_s: float = T0) -> list[Event]:
    protocol.receive(json.dumps({"event": name, "channel": channel, "data": data}), now_s)
    return protocol.take_events()


def subscribed(*channels: str) -> Pusher:
    protocol = machine(*channels)
    heard(protocol, "established")
    for action in protocol.take_actions():
        if isinstance(action, Authorize):
            protocol.authorized(action.channel, action.socket_id, "key:abc", None, T0)
    for channel in channels or (PUBLIC,):
        event(protocol, "pusher_internal:subscription_succeeded", "{}", channel)
    protocol.take_actions()
    return protocol


def error(code: int, message: str = "no") -> str:
    return json.dumps({"event": "pusher:error", "data": json.dumps({"code": code, "message": message})})


# Connecting


def test_the_url_names_application_and_protocol() -> None:
    assert machine().url == "wss://server:443/app/key?protocol=7&client=myrvm-edge&version=1.0&flash=false"
    assert "/base/app/a%2Fb?" in Pusher("ws://h/base/", "a/b", ("c",)).url


@pytest.mark.parametrize("channels", [(), ("a", "a"), ("with space",), ("",), ("x" * 165,), ("ümlaut",)])
def test_channels_are_checked(channels: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="channel"):
        Pusher("ws://h", "key", channels)


@pytest.mark.parametrize("frame", ["established", "established_pusher", "established_single"])
def test_an_established_connection_subscribes(frame: str) -> None:
    protocol = machine(PUBLIC, PRIVATE)
    assert heard(protocol, frame) == [LineChanged(LineState.CONNECTED)]
    socket_id = SOCKET_ID if frame == "established" else "123.456"
    subscribe, ask = protocol.take_actions()
    assert isinstance(subscribe, SendText)
    assert json.loads(subscribe.text) == {"event": "pusher:subscribe", "data": {"channel": PUBLIC}}
    assert ask == Authorize(PRIVATE, socket_id)


def test_a_server_that_says_nothing_is_left() -> None:
    protocol = machine()
    assert protocol.deadline_s == T0 + 10
    protocol.tick(T0 + 10)
    assert protocol.take_actions() == [Close("no word from the server within 10 s")]
    assert protocol.closed(None) is Retry.SOON


@pytest.mark.parametrize(
    ("data", "quiet_s"),
    [({"activity_timeout": 12}, 12), ({"activity_timeout": 120}, 25), ({"activity_timeout": 0}, 1), ({}, 25)]
    + [({"activity_timeout": wrong}, 25) for wrong in ("5", None, True, [])],
)
def test_the_servers_activity_timeout_counts_where_it_is_shorter(data: dict[str, Any], quiet_s: float) -> None:
    protocol = machine()
    event(protocol, "pusher:connection_established", data | {"socket_id": "1.2"})
    event(protocol, "pusher_internal:subscription_succeeded", "{}")
    assert protocol.deadline_s == T0 + quiet_s


@pytest.mark.parametrize("socket_id", [None, 1, "", "1", "1.x", "1.2 ", "1." + "2" * 21, "1.2:private-other"])
def test_a_socket_id_that_is_none_is_malformed(socket_id: Any) -> None:
    protocol = machine()
    [problem] = event(protocol, "pusher:connection_established", {"socket_id": socket_id})
    assert isinstance(problem, Malformed)
    assert protocol.take_actions() == []


def test_a_second_establishment_changes_nothing() -> None:
    protocol = subscribed()
    [problem] = heard(protocol, "established_pusher")
    assert isinstance(problem, Malformed)
    assert protocol.socket_id == SOCKET_ID


# Subscribing


def test_confirmed_channels_make_a_subscribed_line_and_each_catches_up() -> None:
    protocol = machine(PUBLIC, PRIVATE)
    heard(protocol, "established")
    protocol.take_actions()
    assert heard(protocol, "subscribed") == [CatchUp(f"subscribed to {PUBLIC}")]
    protocol.authorized(PRIVATE, SOCKET_ID, "key:abc", None, T0)
    [frame] = sent(protocol)
    assert frame == {"event": "pusher:subscribe", "data": {"channel": PRIVATE, "auth": "key:abc"}}
    assert heard(protocol, "subscribed_private") == [
        LineChanged(LineState.SUBSCRIBED),
        CatchUp(f"subscribed to {PRIVATE}"),
    ]
    assert heard(protocol, "subscribed_private") == []


def test_a_presence_channel_sends_who_it_is_as_the_server_wrote_it() -> None:
    protocol = machine(PRESENCE)
    heard(protocol, "established")
    protocol.take_actions()
    who = '{ "user_id": 1,"user_info":{"name":"Test User"}}'
    protocol.authorized(PRESENCE, SOCKET_ID, "key:abc", who, T0)
    assert sent(protocol)[0]["data"]["channel_data"] == who
    assert heard(protocol, "subscribed_presence")[0] == LineChanged(LineState.SUBSCRIBED)
    assert heard(protocol, "member_added") == heard(protocol, "member_removed") == []


def test_the_presence_example_of_the_documentation_confirms_although_its_data_is_no_json() -> None:
    protocol = machine("presence-example-channel")
    heard(protocol, "established")
    protocol.authorized("presence-example-channel", SOCKET_ID, "key:abc", "{}", T0)
    assert heard(protocol, "subscribed_presence_pusher")[0] == LineChanged(LineState.SUBSCRIBED)
    assert heard(protocol, "member_added_pusher") == []


def test_a_leave_for_another_connection_or_of_a_strange_form_is_not_used() -> None:
    protocol = machine(PRIVATE)
    heard(protocol, "established")
    protocol.take_actions()
    protocol.authorized(PRIVATE, "9.9", "key:abc", None, T0)
    protocol.authorized("private-other", SOCKET_ID, "key:abc", None, T0)
    assert protocol.take_actions() == []
    protocol.authorized(PRIVATE, SOCKET_ID, "key: abc\n", None, T0)
    assert protocol.take_actions() == []
    [alarm] = protocol.take_events()
    assert isinstance(alarm, LineChanged)
    assert alarm.state is LineState.ALARM
    assert "key:" not in alarm.reason


def test_no_confirmation_within_5_s_is_an_alarm_and_a_new_try() -> None:
    protocol = machine()
    heard(protocol, "established")
    assert len(sent(protocol)) == 1
    assert protocol.deadline_s == T0 + 5
    protocol.tick(T0 + 4.9)
    assert protocol.take_events() == []
    protocol.tick(T0 + 5)
    [alarm] = protocol.take_events()
    assert alarm == LineChanged(LineState.ALARM, f"{PUBLIC}: not confirmed within 5 s")
    again_s = protocol.deadline_s
    assert T0 + 5 < again_s <= T0 + 10
    protocol.tick(again_s)
    assert [frame["event"] for frame in sent(protocol)] == ["pusher:subscribe"]
    assert heard(protocol, "subscribed", again_s + 1)[0] == LineChanged(LineState.SUBSCRIBED)


def test_a_late_confirmation_counts() -> None:
    protocol = machine()
    heard(protocol, "established")
    protocol.tick(T0 + 5)
    protocol.take_events()
    assert heard(protocol, "subscribed", T0 + 5.01)[0] == LineChanged(LineState.SUBSCRIBED)
    protocol.take_actions()
    protocol.tick(T0 + 20)
    assert protocol.take_actions() == []


def test_leave_that_is_not_given_is_an_alarm_and_asked_for_again_less_and_less_often() -> None:
    protocol = machine(PRIVATE)
    heard(protocol, "established")
    protocol.take_actions()
    now_s, waits = T0, []
    for _ in range(30):
        protocol.not_authorized(PRIVATE, SOCKET_ID, "answered 403", now_s)
        [alarm] = protocol.take_events()
        assert alarm == LineChanged(LineState.ALARM, f"{PRIVATE}: answered 403")
        asked: list[Action] = []
        began_s = now_s
        while not asked:
            now_s = protocol.deadline_s
            protocol.tick(now_s)
            asked = [action for action in protocol.take_actions() if isinstance(action, Authorize)]
            heard(protocol, "pong", now_s)
        waits.append(now_s - began_s)
    assert waits[0] <= 5
    assert max(waits) <= 60
    assert max(waits[4:]) > 20


def test_leave_that_nobody_answers_is_an_alarm() -> None:
    protocol = machine(PRIVATE)
    heard(protocol, "established")
    protocol.tick(T0 + 10)
    assert protocol.take_events() == [LineChanged(LineState.ALARM, f"{PRIVATE}: no leave within 10 s")]
    protocol.authorized(PRIVATE, SOCKET_ID, "key:abc", None, T0 + 11)
    assert sent(protocol) == []


def test_reverbs_refusal_names_no_channel_and_is_about_the_oldest_question() -> None:
    protocol = machine(PRIVATE, PRESENCE)
    heard(protocol, "established")
    protocol.authorized(PRIVATE, SOCKET_ID, "key:abc", None, T0)
    protocol.authorized(PRESENCE, SOCKET_ID, "key:abc", "{}", T0 + 0.1)
    [alarm] = heard(protocol, "unauthorized")
    assert alarm == LineChanged(LineState.ALARM, f"{PRIVATE}: refused: Connection is unauthorized")
    [problem] = heard(protocol, "subscribed_private")
    assert isinstance(problem, Malformed)  # a refused channel is not confirmed by somebody else's word
    assert [type(one) for one in heard(protocol, "subscribed_presence")] == [CatchUp]


def test_pushers_subscription_error_names_the_channel() -> None:
    protocol = machine(PRIVATE, PRESENCE)
    heard(protocol, "established")
    protocol.authorized(PRIVATE, SOCKET_ID, "key:abc", None, T0)
    protocol.authorized(PRESENCE, SOCKET_ID, "key:abc", "{}", T0)
    said = {"type": "AuthError", "error": "wrong signature", "status": 401}
    [alarm] = event(protocol, "pusher:subscription_error", said, PRESENCE)
    assert alarm == LineChanged(LineState.ALARM, f"{PRESENCE}: refused: 401 wrong signature")


# Events


def test_events_come_with_data_as_an_object_and_as_json_in_a_string() -> None:
    said = {"session_id": "s1", "user": {"id": 7, "name": "Alice", "balance": 12.5}}
    for data in (said, json.dumps(said)):
        [session] = event(subscribed(), "session.authorized", data)
        assert isinstance(session, SessionAuthorized)
        assert session.user.name == "Alice"


def test_a_public_channel_carries_no_commands() -> None:
    for name in ("command", "config_update", "maintenance"):
        assert event(subscribed(), name, "a.b.c") == [CommandRefused(name, "", "a public channel carries no commands")]
    [refused] = event(subscribed(), "hardware.command", json.dumps({"command": "RESTART", "request_id": "r"}))
    assert isinstance(refused, CommandRefused)
    assert (refused.command, refused.request_id) == ("RESTART", "r")


@pytest.mark.parametrize("channel", [PRIVATE, PRESENCE])
def test_a_private_channel_carries_documents_but_no_unsigned_command(channel: str) -> None:
    protocol = subscribed(channel)
    assert event(protocol, "command", "a.b.c", channel) == [CommandDocument("a.b.c")]
    assert event(protocol, "config_update", json.dumps({"document": "a.b.c"}), channel) == [ConfigUpdate("a.b.c")]
    assert event(protocol, "maintenance", {"document": "a.b.c"}, channel) == [Maintenance("a.b.c")]
    [refused] = event(protocol, "hardware.command", {"command": "RESTART"}, channel)
    assert isinstance(refused, CommandRefused)


@pytest.mark.parametrize("channel", ["other", "", None, 7, ["test-channel"], "private-test-channel"])
def test_events_of_channels_that_are_not_subscribed_are_dropped(channel: Any) -> None:
    protocol = machine(PUBLIC, PRIVATE)
    heard(protocol, "established")
    [problem] = event(protocol, "session.authorized", {"session_id": "s", "user": {"id": 1}}, channel)
    assert isinstance(problem, Malformed)


def test_a_newer_servers_own_events_are_no_fault() -> None:
    protocol = subscribed(PUBLIC)
    assert heard(protocol, "cache_miss") == heard(protocol, "signin_success") == heard(protocol, "pong") == []
    assert event(protocol, "pusher_internal:subscription_count", {"subscription_count": 3}) == []


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "[]",
        "{",
        '"x"',
        '{"event":7}',
        '{"event":null}',
        '{"data":{}}',
        '{"event":"a","event":"b"}',
        b"\x00\xff",
        '{"event":"pusher:error","data":"{"}',
        '{"event":"pusher:error","data":7}',
        RECORDED["too_large"],
        '{"event":"pusher:error","data":{"code":1e400}}',
        '{"event":"x","channel":"test-channel","data":"[NaN]"}',
        '{"event":"' + "x" * 201 + '","channel":"test-channel"}',
        '{"event":"session.authorized","channel":{}}',
    ],
)
def test_what_is_malformed_is_said_and_the_line_stays(frame: str | bytes) -> None:
    protocol = subscribed()
    protocol.receive(frame, T0)
    assert [type(one) for one in protocol.take_events()] == [Malformed]
    assert protocol.take_actions() == []
    assert len(event(protocol, "command", "a.b.c")) == 1


# Staying


def test_pings_are_answered() -> None:
    protocol = subscribed()
    assert heard(protocol, "ping") == []
    assert sent(protocol) == [{"event": "pusher:pong", "data": {}}]


def test_a_quiet_server_is_pinged_and_a_dead_one_left_within_45_s() -> None:
    protocol = subscribed()
    protocol.tick(T0 + 25)
    assert sent(protocol) == [{"event": "pusher:ping", "data": {}}]
    heard(protocol, "pong", T0 + 39)
    protocol.tick(T0 + 64)
    assert len(sent(protocol)) == 1
    protocol.tick(T0 + 79)
    assert protocol.take_actions() == [Close("nothing heard for 40 s")]
    assert protocol.closed(None) is Retry.SOON


# Ending


@pytest.mark.parametrize(
    ("code", "retry"),
    [
        (4000, Retry.SLOWLY),
        (4001, Retry.SLOWLY),
        (4009, Retry.SLOWLY),
        (4099, Retry.SLOWLY),
        (4100, Retry.BACK_OFF),
        (4199, Retry.BACK_OFF),
        (4200, Retry.AT_ONCE),
        (4201, Retry.AT_ONCE),
        (4202, Retry.AT_ONCE),
        (4299, Retry.AT_ONCE),
        (None, Retry.SOON),
        (1000, Retry.SOON),
        (1006, Retry.SOON),
        (1012, Retry.SOON),
        (4300, Retry.SOON),
        (3999, Retry.SOON),
    ],
)
def test_each_close_code_demands_its_way_back(code: int | None, retry: Retry) -> None:
    assert subscribed().closed(code) is retry


@pytest.mark.parametrize(
    ("frame", "retry"),
    [
        ("no_application", Retry.SLOWLY),
        ("over_quota", Retry.SLOWLY),
        ("wrong_origin", Retry.SLOWLY),
        ("error_object", Retry.BACK_OFF),
        ("invalid_message", Retry.BACK_OFF),
        ("no_pong", Retry.AT_ONCE),
        ("error_without_code", Retry.SOON),
    ],
)
def test_an_error_in_place_of_a_welcome_ends_the_connection(frame: str, retry: Retry) -> None:
    protocol = machine()
    assert heard(protocol, frame) == []
    [close] = protocol.take_actions()
    assert isinstance(close, Close)
    assert close.reason.startswith("refused by the server with")
    assert protocol.closed(1000) is retry


def test_our_own_mistake_is_said_and_no_reason_to_leave() -> None:
    protocol = subscribed()
    assert heard(protocol, "invalid_message") == [PeerError(4200, "Invalid message format")]
    assert heard(protocol, "rate_limit") == [PeerError(4301, "Rate limit exceeded")]
    assert heard(protocol, "error_without_code") == [PeerError(None, "something")]
    assert heard(protocol, "unauthorized") == [PeerError(4009, "Connection is unauthorized")]
    assert protocol.take_actions() == []


@pytest.mark.parametrize(("code", "retry"), [(4003, Retry.SLOWLY), (4100, Retry.BACK_OFF), (4201, Retry.AT_ONCE)])
def test_an_error_that_ends_the_connection_is_obeyed_where_reverb_leaves_it_open(code: int, retry: Retry) -> None:
    protocol = subscribed()
    protocol.receive(error(code), T0)
    assert [type(action) for action in protocol.take_actions()] == [Close]
    assert event(protocol, "session.authorized", {}) == []
    assert protocol.closed(None) is retry


# Client events


def test_client_events_go_over_private_channels_and_keep_the_limits() -> None:
    protocol = subscribed(PRIVATE)
    protocol.send_client_event(PRIVATE, "client-hello", {"a": 1}, T0)
    assert sent(protocol) == [{"event": "client-hello", "channel": PRIVATE, "data": {"a": 1}}]
    with pytest.raises(ServerError, match="client-"):
        protocol.send_client_event(PRIVATE, "hello", {}, T0)
    with pytest.raises(ServerError, match="10000"):
        protocol.send_client_event(PRIVATE, "client-large", "x" * 10_000, T0)
    for _ in range(9):
        protocol.send_client_event(PRIVATE, "client-hello", {}, T0 + 0.5)
    with pytest.raises(ServerError, match="10 in a second"):
        protocol.send_client_event(PRIVATE, "client-hello", {}, T0 + 0.99)
    protocol.send_client_event(PRIVATE, "client-hello", {}, T0 + 1.0)
    with pytest.raises(ServerError, match="10 in a second"):
        protocol.send_client_event(PRIVATE, "client-hello", {}, T0 + 1.1)


def test_no_client_event_without_a_confirmed_private_channel() -> None:
    waiting = machine(PRIVATE)
    heard(waiting, "established")
    for protocol, channel in ((subscribed(PUBLIC), PUBLIC), (waiting, PRIVATE), (subscribed(PRIVATE), "private-b")):
        with pytest.raises(ServerError, match="private and presence"):
            protocol.send_client_event(channel, "client-hello", {}, T0)


def test_a_whisper_is_heard_on_a_private_channel_only() -> None:
    protocol = subscribed(PUBLIC, PRIVATE)
    assert heard(protocol, "whisper") == [ClientEvent(PRIVATE, "client-start-typing", {"id": 123, "name": "Joe Dixon"})]
    [problem] = event(protocol, "client-start-typing", {})
    assert isinstance(problem, Malformed)


# Properties


def mutated(frame: str, edits: list[tuple[int, str]]) -> str:
    for position, text in edits:
        at = position % (len(frame) + 1)
        frame = frame[:at] + text + frame[at + len(text) % 3 :]
    return frame


FRAMES = st.one_of(
    st.sampled_from(sorted(RECORDED.values())),
    st.builds(
        mutated,
        st.sampled_from(sorted(RECORDED.values())),
        st.lists(st.tuples(st.integers(0, 400), st.text(max_size=4) | st.sampled_from(["\\", '"', "{", "}", "9"]))),
    ),
    st.builds(
        lambda name, channel, data: json.dumps({"event": name, "channel": channel, "data": data}),
        st.sampled_from(["command", "session.authorized", "ui.update", "client-x", "hardware.command"])
        | st.sampled_from(["pusher_internal:subscription_succeeded", "pusher:subscription_error", "pusher:error"]),
        st.sampled_from([PUBLIC, PRIVATE, PRESENCE, "other", None]),
        st.none() | st.text(max_size=20) | st.just("{}") | st.dictionaries(st.text(max_size=5), st.integers())
        | st.fixed_dictionaries({"code": st.integers(3990, 4310), "message": st.text(max_size=5)}),
    ),
    st.text(max_size=50),
)  # fmt: skip


@given(st.lists(st.text() | st.binary() | FRAMES, max_size=20))
@settings(max_examples=200)
def test_no_message_raises(messages: list[str | bytes]) -> None:
    for protocol in (machine(PUBLIC), subscribed(PUBLIC, PRIVATE)):
        for message in messages:
            protocol.receive(message, T0)
            protocol.take_events()


class Line(RuleBasedStateMachine):
    """A connection to a server that says anything at any time, and a REST server that answers late or never."""

    @initialize(channels=st.sampled_from([(PUBLIC,), (PRIVATE,), (PUBLIC, PRIVATE), (PUBLIC, PRIVATE, PRESENCE)]))
    def begin(self, channels: tuple[str, ...]) -> None:
        self.now_s = self.heard_s = T0
        self.channels = channels
        self.protocol = Pusher("ws://h", "key", channels, generator=random.Random(2))
        self.protocol.opened(self.now_s)
        self.asked: list[Authorize] = []
        self.requested: set[str] = set()
        self.closing = False
        self.read()

    def read(self) -> list[Event]:
        """Take what came out, and hold it against what may come out at all."""
        events, actions = self.protocol.take_events(), self.protocol.take_actions()
        if self.closing:
            assert not events + actions
        assert len(events) <= len(self.channels) + 2
        assert len(actions) <= len(self.channels) + 1
        for action in actions:
            assert not self.closing
            if isinstance(action, Authorize):
                assert not action.channel.startswith("test")
                self.asked.append(action)
            elif isinstance(action, Close):
                self.closing = True
            elif isinstance(action, SendText):
                frame = json.loads(action.text)
                if frame["event"] == "pusher:subscribe":
                    channel = frame["data"]["channel"]
                    assert ("auth" in frame["data"]) == (channel != PUBLIC)
                    self.requested.add(channel)
        documents = [one for one in events if isinstance(one, (CommandDocument, ConfigUpdate, Maintenance))]
        assert not documents or self.requested & {PRIVATE, PRESENCE}
        for one in events:
            if one == LineChanged(LineState.SUBSCRIBED):
                assert self.requested == set(self.channels)
        return events

    @precondition(lambda self: not self.closing)
    @rule(frame=FRAMES | st.binary(max_size=5))
    def server_says(self, frame: str | bytes) -> None:
        self.heard_s = self.now_s
        self.protocol.receive(frame, self.now_s)
        self.read()

    @precondition(lambda self: not self.closing)
    @rule(what=st.sampled_from(["established", "subscribed", "subscribed_private", "subscribed_presence", "ping"]))
    def server_is_good(self, what: str) -> None:
        self.heard_s = self.now_s
        self.protocol.receive(RECORDED[what], self.now_s)
        self.read()

    @precondition(lambda self: bool(self.asked))
    @rule(good=st.booleans(), which=st.integers(0, 9), auth=st.just("key:abc") | st.text(max_size=5))
    def rest_answers(self, good: bool, which: int, auth: str) -> None:
        asked = self.asked[which % len(self.asked)]
        if good:
            self.protocol.authorized(asked.channel, asked.socket_id, auth, None, self.now_s)
        else:
            self.protocol.not_authorized(asked.channel, asked.socket_id, "no", self.now_s)
        self.read()

    @rule(passed_s=st.sampled_from([0.0, 0.5, 5.0, 9.0, 30.0]))
    def time_passes(self, passed_s: float) -> None:
        """Woken at each deadline, as `event_line` is."""
        end_s = self.now_s + passed_s
        for _ in range(200):
            self.now_s = min(end_s, max(self.now_s, self.protocol.deadline_s))
            self.protocol.tick(self.now_s)
            self.read()
            if self.now_s == end_s:
                break
        else:
            raise AssertionError("woken 200 times within 30 s")

    @precondition(lambda self: not self.closing)
    @rule(code=st.none() | st.integers(1000, 4999))
    def server_leaves(self, code: int | None) -> None:
        assert isinstance(self.protocol.closed(code), Retry)
        self.closing = True
        self.read()

    @invariant()
    def nothing_is_due_for_ever_nor_over_and_over(self) -> None:
        if self.closing:
            assert self.protocol.deadline_s == math.inf
        else:
            assert self.now_s - self.heard_s < 45
            assert self.protocol.deadline_s < self.now_s + 45


Line.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestLine = Line.TestCase
