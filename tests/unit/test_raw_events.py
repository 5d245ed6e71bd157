from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_cloud.event_protocol import Close, LineTimes, Retry, SendPing
from myrvm_cloud.events import (
    CatchUp,
    CommandDocument,
    CommandRefused,
    ConfigUpdate,
    Event,
    ItemProcessed,
    LineChanged,
    LineState,
    Maintenance,
    Malformed,
    SessionAuthorized,
    UiUpdate,
)
from myrvm_cloud.raw_events import RawEvents
from myrvm_core.errors import SettingsError

TOKEN = "token-that-must-not-be-logged"
T0 = 1000.0


def opened() -> RawEvents:
    protocol = RawEvents("wss://server/ws", TOKEN)
    protocol.opened(T0)
    protocol.take_events()
    return protocol


def heard(protocol: RawEvents, name: str, data: Any, now_s: float = T0) -> list[Event]:
    protocol.receive(json.dumps({"event": name, "data": data}), now_s)
    return protocol.take_events()


def test_the_token_is_a_header_or_part_of_the_url_and_shows_nowhere_else() -> None:
    header, url = RawEvents("wss://server/ws", TOKEN), RawEvents("wss://server/ws", "a&b=+", token_in_url=True)
    assert header.headers == {"Authorization": f"Bearer {TOKEN}"}
    assert header.url == "wss://server/ws"
    assert (url.url, url.headers) == ("wss://server/ws?token=a%26b%3D%2B", {})
    assert TOKEN not in repr(header) + str(header)
    assert RawEvents("wss://server/ws", "").headers == {}


@pytest.mark.parametrize("token", ["a b", "a\nb", "ä", "a\x00"])
def test_a_token_that_cannot_be_sent_is_refused_without_being_named(token: str) -> None:
    with pytest.raises(SettingsError) as refused:
        RawEvents("wss://server/ws", token)
    assert token not in str(refused.value)


def test_an_open_line_is_subscribed_and_catches_up() -> None:
    protocol = RawEvents("wss://server/ws", TOKEN)
    protocol.opened(T0)
    assert protocol.take_events() == [LineChanged(LineState.SUBSCRIBED), CatchUp("connected")]
    assert protocol.take_events() == []


@pytest.mark.parametrize(
    ("name", "kind"), [("command", CommandDocument), ("config_update", ConfigUpdate), ("maintenance", Maintenance)]
)
def test_documents_are_passed_on_as_they_are(name: str, kind: Any) -> None:
    assert heard(opened(), name, "a.b.c") == [kind("a.b.c")]
    assert heard(opened(), name, {"document": "a.b.c", "sent_at": 1}) == [kind("a.b.c")]
    for nothing in (None, "", {}, {"document": 1}, ["a.b.c"], 7):
        assert [type(event) for event in heard(opened(), name, nothing)] == [Malformed]


def test_what_can_do_no_harm_is_typed() -> None:
    user = {"id": 7, "name": "Alice", "balance": 12}
    [session] = heard(opened(), "session.authorized", {"session_id": "s1", "user": user, "extra": 1})
    assert isinstance(session, SessionAuthorized)
    assert (session.session_id, session.user.id, session.user.balance) == ("s1", "7", 12)
    [item] = heard(opened(), "item.processed", {"session_id": 5, "accepted": True, "points_awarded": 3})
    assert isinstance(item, ItemProcessed)
    assert (item.session_id, item.points_awarded, item.rejection_reason) == ("5", 3, None)
    [shown] = heard(opened(), "ui.update", {"type": "banner", "payload": {"text": "hello"}})
    assert isinstance(shown, UiUpdate)
    assert shown.payload == {"text": "hello"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("session.authorized", {"session_id": "s1"}),
        ("session.authorized", {"session_id": "", "user": {"id": 1}}),
        ("session.authorized", {"offer_id": 1, "user": {"id": 1}}),
        ("session.authorized", {"session_id": True, "user": {"id": 1}}),
        ("session.authorized", {"session_id": "s" * 101, "user": {"id": 1}}),
        ("session.authorized", [1]),
        ("item.processed", {"session_id": "s", "accepted": "yes"}),
        ("item.processed", {"session_id": "s", "accepted": True, "item_type": "x" * 501}),
        ("ui.update", None),
        ("nobody.knows", {}),
    ],
)
def test_what_is_not_of_the_contract_is_malformed(name: str, data: Any) -> None:
    assert [type(event) for event in heard(opened(), name, data)] == [Malformed]


def test_an_unsigned_command_is_refused_and_said() -> None:
    [refused] = heard(opened(), "hardware.command", {"command": "GIT_PULL", "params": {}, "request_id": 9})
    assert isinstance(refused, CommandRefused)
    assert (refused.command, refused.request_id) == ("GIT_PULL", "9")
    assert "signed update" in refused.reason
    [refused] = heard(opened(), "hardware.command", "x" * 1000)
    assert isinstance(refused, CommandRefused)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 17 + "]" * 17,
        "[" * 30000 + "]" * 30000,
        '{"event":"ui.update","data":NaN}',
        "1" * 5000,
        '{"event":"command","event":"command"}',
        '{"event":"ui.update","data":{"type":"\\ud800"}}',
        " " * 65537,
    ],
)
def test_json_out_of_bounds_is_malformed(text: str) -> None:
    protocol = opened()
    protocol.receive(text, T0)
    assert [type(event) for event in protocol.take_events()] == [Malformed]


@pytest.mark.parametrize("message", ["", "x", "[]", "7", "null", '{"data":1}', '{"event":1}', b'{"event":"command"}'])
def test_what_is_no_event_is_malformed(message: str | bytes) -> None:
    protocol = opened()
    protocol.receive(message, T0)
    assert [type(event) for event in protocol.take_events()] == [Malformed]


def test_a_quiet_line_is_pinged_and_a_dead_one_is_closed_within_45_s() -> None:
    protocol = opened()
    assert protocol.deadline_s == T0 + 25
    protocol.tick(T0 + 24.9)
    assert protocol.take_actions() == []
    protocol.tick(T0 + 25)
    assert protocol.take_actions() == [SendPing()]
    protocol.pong(T0 + 26)
    assert protocol.deadline_s == T0 + 51
    protocol.tick(T0 + 51)
    assert protocol.take_actions() == [SendPing()]
    protocol.tick(T0 + 65.9)
    assert protocol.take_actions() == []
    protocol.tick(T0 + 66)
    assert protocol.take_actions() == [Close("nothing heard for 40 s")]
    assert protocol.deadline_s == math.inf
    assert protocol.closed(None) is Retry.SOON
    assert protocol.reason == "nothing heard for 40 s"


def test_times_that_would_notice_a_dead_line_too_late_are_refused() -> None:
    with pytest.raises(SettingsError, match="quiet_s"):
        LineTimes(quiet_s=30.0, pong_s=15.0)


@pytest.mark.parametrize(
    ("code", "retry"),
    [
        (None, Retry.SOON),
        (1000, Retry.SOON),
        (1001, Retry.SOON),
        (1006, Retry.SOON),
        (1011, Retry.SOON),
        (1008, Retry.SLOWLY),
        (4401, Retry.SLOWLY),
        (4403, Retry.SLOWLY),
    ],
)
def test_the_close_code_says_how_to_go_on(code: int | None, retry: Retry) -> None:
    assert opened().closed(code) is retry


def test_a_closed_line_says_nothing_more() -> None:
    protocol = opened()
    protocol.closed(1000)
    assert heard(protocol, "command", "a.b.c") == []
    protocol.tick(T0 + 1000)
    assert protocol.take_actions() == []


@given(st.text() | st.binary())
def test_any_message_is_one_event(message: str | bytes) -> None:
    protocol = opened()
    protocol.receive(message, T0)
    assert len(protocol.take_events()) == 1


@given(
    st.sampled_from(
        ["command", "session.authorized", "item.processed", "ui.update", "hardware.command", "maintenance"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["session_id", "user", "id"]), inner)
        ),
    ),
)
def test_any_data_is_one_event(name: str, data: object) -> None:
    protocol = opened()
    protocol.receive(json.dumps({"event": name, "data": data}), T0)
    assert len(protocol.take_events()) == 1
