"""What a fuzzer feeds its bytes to, and what must hold for each input: the event protocols and the voucher's decoder.

A target raises AssertionError, or whatever the code under it should never raise. `tests/soak/fuzz.py` runs them under
atheris, `tests/unit/test_fuzz_targets.py` under Hypothesis.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from myrvm_cloud.event_protocol import Action, Authorize, Close, EventProtocol, SendPing, SendText
from myrvm_cloud.events import ClientEvent, CommandDocument, ConfigUpdate, Event, Maintenance
from myrvm_cloud.pusher import Pusher
from myrvm_cloud.raw_events import RawEvents
from myrvm_core.errors import SignatureError
from myrvm_core.signing import KeyRing, PublicKey, SigningKey
from myrvm_core.voucher import Voucher, digest

CPU_LIMIT_S = 2.0  # of an input of 70,000 bytes; usual ones take below a millisecond
LINE_CHARACTERS = 1_000  # of a reason or an error, which end up in a log
CHANNELS = ("rvm.a-b", "private-rvm.7", "presence-rvm.7")
SIGNED = (CommandDocument, ConfigUpdate, Maintenance)
RECORDED = [frame["text"] for frame in json.loads((Path(__file__).parent / "pusher_frames.json").read_text())["frames"]]
ESTABLISHED = '{"event":"pusher:connection_established","data":"{\\"socket_id\\":\\"1.2\\",\\"activity_timeout\\":30}"}'

PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))  # the same documents each time
KEY = SigningKey("0123456789abcdef", PRIVATE_KEY)
RING = KeyRing(keys=(PublicKey(key_id=KEY.key_id, public=KEY.public, purposes=frozenset({"voucher"})),))
VOUCHER = Voucher(
    voucher_id="00000000-0000-0000-0000-000000000007", machine="rvm-7", items=3, points=30, deposits=digest(["a", "b"]),
    issued_at=1_796_000_000, expires_at=1_803_776_000,
)  # fmt: skip


def pusher(data: bytes) -> None:
    """Lines of `data` are messages to a Pusher line; ones that are not UTF-8 are binary messages.

    The first byte says whether the channels are subscribed already.
    """
    protocol = Pusher("wss://server", "key", CHANNELS, generator=random.Random(1))
    protocol.opened(0.0)
    if data[:1] in (b"1", b"2"):
        protocol.receive(ESTABLISHED, 0.0)
        for action in _taken(protocol):
            if isinstance(action, Authorize):
                protocol.authorized(action.channel, action.socket_id, "key:abc", None, 0.0)
    if data[:1] == b"2":
        for channel in CHANNELS:
            protocol.receive(json.dumps({"event": "pusher:subscription_succeeded", "channel": channel}), 0.0)
    _converse(protocol, data[1:])


def raw(data: bytes) -> None:
    """Lines of `data` are messages to a line of raw JSON."""
    protocol = RawEvents("wss://server", "token")
    protocol.opened(0.0)
    _converse(protocol, data)


def voucher(data: bytes) -> None:
    """The first byte says what the rest is: a document; a payload, or a header, a line and a payload, to be signed."""
    kind, rest = data[:1], data[1:]
    forged = kind not in (b"p", b"h")
    if forged:
        document = rest.decode(errors="replace")
    else:
        usual = json.dumps({"alg": "EdDSA", "kid": KEY.key_id, "typ": Voucher.KIND}).encode()
        header, payload = (usual, rest) if kind == b"p" else (rest + b"\n").split(b"\n", 1)
        said = f"{_base64(header)}.{_base64(payload)}"
        document = f"{said}.{_base64(PRIVATE_KEY.sign(said.encode()))}"
    began_s = time.process_time()
    try:
        read, key = Voucher.read(document, RING, 0.0)
    except SignatureError as error:
        _is_line(str(error))
        return
    finally:
        _in_time(began_s)
    assert key == RING.keys[0]
    assert not forged or read == VOUCHER, "a voucher that nobody has signed"
    assert Voucher.read(read.sign(KEY), RING, 0.0)[0] == read


TARGETS: dict[str, Callable[[bytes], None]] = {"pusher": pusher, "raw": raw, "voucher": voucher}

_EVENTS = [
    {"event": name, "channel": channel, "data": data}
    for channel in CHANNELS[:2]
    for name, data in (
        ("command", {"document": "a.b.c"}),
        ("config_update", '{"document":"a.b.c"}'),
        ("maintenance", "a.b.c"),
        ("hardware.command", {"command": "GIT_PULL", "params": {}, "request_id": 1}),
        ("session.authorized", {"session_id": 1, "user": {"id": 7, "name": "A", "balance": 1.5}, "offer_id": "x"}),
        ("item.processed", {"session_id": "s", "accepted": True, "item_type": "pet", "points_awarded": 5}),
        ("ui.update", {"type": "message", "payload": {"text": "\u00fc"}}),
        ("client-typing", "[1,2.5,null]"),
        ("pusher:subscription_error", {"type": "AuthError", "error": "no", "status": 401}),
        ("pusher:error", {"code": 4201, "message": "bye"}),
    )
]
_FRAMES = [*RECORDED, *(json.dumps(event) for event in _EVENTS)]
_DOCUMENT, _CLAIMS = VOUCHER.sign(KEY), json.dumps(VOUCHER.model_dump(), sort_keys=True, separators=(",", ":"))
SEEDS: dict[str, list[bytes]] = {
    "pusher": [mode + frame.encode() for frame in _FRAMES for mode in (b"0", b"1", b"2")],
    "raw": [frame.encode() for frame in _FRAMES],
    "voucher": [
        b"d" + _DOCUMENT.encode(),
        b"p" + _CLAIMS.encode(),
        b'h{"alg":"EdDSA","kid":"0123456789abcdef","typ":"rvm-voucher"}\n' + _CLAIMS.encode(),
    ],
}
"""Inputs of each target that go deep, to begin with."""


def _converse(protocol: EventProtocol, data: bytes) -> None:
    """A message a second, each followed by what is due and by what a line does with what comes out."""
    began_s = time.process_time()
    _taken(protocol)
    protocol.take_events()
    for number, line in enumerate(data.split(b"\n"), start=1):
        now_s = float(number)
        protocol.receive(_message(line), now_s)
        protocol.tick(now_s)
        events, actions = protocol.take_events(), _taken(protocol)
        assert len(events) + len(actions) <= 2 * len(CHANNELS) + 2, "one message, and more than it can demand"
        for event in events:
            _judge(event, line)
        assert protocol.deadline_s > now_s, "due now, after all that was due was done"
        if any(isinstance(action, Close) for action in actions):
            assert protocol.deadline_s == math.inf
            break
    protocol.closed(1006)
    _in_time(began_s)


def _message(line: bytes) -> str | bytes:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line


def _taken(protocol: EventProtocol) -> list[Action]:
    """What it wants done: nothing but pings, pongs, subscriptions, leave for its channels, or the end."""
    actions = protocol.take_actions()
    for action in actions:
        if isinstance(action, SendText):
            frame = json.loads(action.text)
            assert frame["event"] in ("pusher:ping", "pusher:pong", "pusher:subscribe"), frame
            assert frame["data"].get("channel", CHANNELS[0]) in CHANNELS, frame
        elif isinstance(action, Authorize):
            assert action.channel in CHANNELS
        elif isinstance(action, Close):
            _is_line(action.reason)
        else:
            assert isinstance(action, SendPing)
    return actions


def _judge(event: Event, line: bytes) -> None:
    """No more than what came, and what goes to a log is a line."""
    for field in dataclasses.fields(event) if dataclasses.is_dataclass(event) else ():
        value = getattr(event, field.name)
        if isinstance(event, SIGNED):
            assert len(value) <= len(line)
        elif isinstance(event, ClientEvent):
            assert event.channel in CHANNELS[1:]
        elif isinstance(value, str):
            _is_line(value)


def _is_line(text: str) -> None:
    assert text.isprintable(), f"no line for a log: {text!r}"
    assert len(text) <= LINE_CHARACTERS, f"{len(text)} characters for a log"


def _in_time(began_s: float) -> None:
    taken_s = time.process_time() - began_s
    assert taken_s < CPU_LIMIT_S, f"{taken_s:.1f} s of a CPU for one input"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
