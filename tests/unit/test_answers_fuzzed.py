"""Whatever a server of either profile answers, it is an answer of the contract or a CallError in one line."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from memory_buffer import deposit
from myrvm_cloud.call import Call, CallError
from myrvm_cloud.myrvm_server_client import MyrvmServerClient
from myrvm_cloud.rest_client import MachineState, MyrvmClient
from myrvm_core.deposit_record import TelemetryRecord

from myrvm_cloud import contract

OURS = MyrvmClient("https://host", "rvm-7", "0.1.0")
PUBLIC = MyrvmServerClient("https://host", "rvm-7", "0.1.0")
MODEL = contract.Model(name="net", version="1", sha256="")
KEY = deposit(1).deposit_id
IDENTITY = {"rvm_id": 7, "rvm_uuid": "a-b", "rvm_name": "RVM 7"}
REVERB = {"channel": "rvm.a-b", "auth_token": "t", "host": "server.invalid", "port": 443, "scheme": "wss"}
GREETING = {"identity": IDENTITY, "websocket": REVERB, "policy": {"is_maintenance_mode": False}}
WANTED = {"latest_version": "2", "sha256_hash": "A" * 64, "file_size_mb": 3.5, "download_url": "/x"}
GOOD: list[tuple[Call[Any], Any]] = [
    (OURS.handshake(MachineState()), {"machine_name": "RVM 7", "server_time": 1.5, "websocket": {"url": "wss://host"}}),
    (OURS.heartbeat(MachineState(), []), {"server_time": 1.5, "maintenance": False, "commands": []}),
    (OURS.authorize("t"), {"account_id": "a", "display_name": "A", "balance_points": 5}),
    (OURS.deposits([deposit(1)]), {"results": [{"idempotency_key": KEY, "status": "credited", "reason": ""}]}),
    (OURS.telemetry("b", [TelemetryRecord(0, "s", "n", 1.0)]), {"status": "stored"}),
    (OURS.models(MODEL), {"models": [{"name": "n", "version": "1", "sha256": "a" * 64, "url": "", "size_bytes": 1}]}),
    (OURS.configuration(), {"document": "signed"}),
    (OURS.command_outcomes([contract.CommandOutcome(digest="0" * 64, status="done")]), {"recorded": ["0" * 64]}),
    (PUBLIC.handshake(MachineState()), {"status": "success", "data": GREETING}),
    (PUBLIC.heartbeat(MachineState(), []), {"server_time": "2026-01-31T12:00:00+07:00", "commands": [{"action": "A"}]}),
    (PUBLIC.deposits([deposit(1)]), {"status": "success", "synced_count": 1, "errors": []}),
    (PUBLIC.models(MODEL), {"update_available": True, "data": WANTED}),
]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-23:59", "2026-01-31", "\x00", "x" * 70_000]),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
)


def judged(call: Call[Any], status: int, body: bytes) -> Any:
    """The answer; None where it is refused in one line."""
    try:
        return call.judge(status, {}, body)
    except CallError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert len(str(error)) < 10_000  # noqa: PT017
        return None


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    if not path:
        return odd
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    if odd is Ellipsis:
        del inner[path[-1]]
    else:
        inner[path[-1]] = odd
    return made


def test_good_answers_are_answers() -> None:
    for call, answer in GOOD:
        assert judged(call, 200, json.dumps(answer).encode()) is not None, call.name


@given(st.data())
def test_a_good_answer_with_one_odd_part(data: st.DataObject) -> None:
    call, answer = data.draw(st.sampled_from(GOOD))
    path = data.draw(st.sampled_from(places(answer)))
    odd = data.draw(ODD if not path else ODD | st.just(Ellipsis))
    judged(call, 200, json.dumps(changed(answer, path, odd)).encode())


@given(st.sampled_from(GOOD), st.integers(100, 599), st.data())
def test_damaged_bytes(good: tuple[Call[Any], Any], status: int, data: st.DataObject) -> None:
    call, answer = good
    text = bytearray(json.dumps(answer).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    judged(call, status, bytes(text[: data.draw(st.integers(0, len(text)))]))


@given(st.sampled_from(GOOD), st.integers(100, 599), st.binary(max_size=100) | st.text().map(str.encode))
def test_anything(good: tuple[Call[Any], Any], status: int, body: bytes) -> None:
    judged(good[0], status, body)
