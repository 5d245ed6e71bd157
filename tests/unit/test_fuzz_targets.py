"""The fuzzer's targets hold for their seeds, for damaged seeds and for any bytes; and they fail where a defect is."""

from __future__ import annotations

import pytest
from fuzz_targets import SEEDS, TARGETS
from hypothesis import given
from hypothesis import strategies as st
from myrvm_cloud.event_protocol import EventProtocol
from myrvm_core.claims import Claims

NASTY = [
    b"\xff\xfe",
    b'{"event":"\\ud800","data":null}',
    b'{"event":"client-x","channel":"private-rvm.7","data":"[' + b"[" * 40 + b'"}',
    b'{"event":"ui.update","channel":"rvm.a-b","data":{"type":"t","payload":' + b"[" * 20 + b"]" * 20 + b"}}",
    b'{"event":"pusher:error","data":{"code":1e308,"message":"' + b"\\n" * 3000 + b'"}}',
    b'{"event":"pusher:connection_established","data":{"socket_id":"1.2","activity_timeout":-1e308}}',
    b'{"event":"' + b"x" * 70_000 + b'"}',
    b"[" * 70_000,
    b'"' + b"\\u0000" * 10_000 + b'"',
    b'{"alg":"EdDSA","kid":"0123456789abcdef","typ":"rvm-voucher","b64":false,"crit":["b64"]}\n{}',
    b'{"alg":"none","kid":"0123456789abcdef","typ":"rvm-voucher"}\n{}',
    b'{"points":9007199254740993}',
    b'{"a\\nb":1}',
    b"." * 16_385,
    b"e30.e30.",
]


def broken(*_: object, **__: object) -> None:
    raise KeyError("a defect")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_is_known_to_be_nasty(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)
    for data in NASTY:
        for first in (b"", b"0", b"1", b"2", b"p", b"h", b"d"):
            TARGETS[name](first + data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_damaged_seeds(name: str, data: st.DataObject) -> None:
    text = bytearray(data.draw(st.sampled_from(SEEDS[name])))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    TARGETS[name](bytes(text))


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_several_messages_are_a_conversation() -> None:
    TARGETS["pusher"](b"0" + b"\n".join(seed[1:] for seed in SEEDS["pusher"]))


@pytest.mark.parametrize("name", TARGETS)
def test_a_defect_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventProtocol, "tick", broken)
    monkeypatch.setattr(Claims, "read", broken)
    with pytest.raises(KeyError):
        TARGETS[name](SEEDS[name][0])
