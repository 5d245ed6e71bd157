"""Signed documents: who signed what, in the one canonical form."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError, SignatureError, StorageError
from myrvm_core.signing import DOCUMENT_BYTES, KeyRing, PublicKey, SigningKey, parse_canonical, thumbprint, verify

NOW_S = 1_800_000_000.0
KEY, OTHER = SigningKey.generate("ops-1"), SigningKey.generate("ops-2")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


def public(key: SigningKey, **changes: object) -> PublicKey:
    return PublicKey.model_validate({"key_id": key.key_id, "public": key.public, "purposes": ["command"], **changes})


RING = KeyRing(keys=(public(KEY), public(OTHER)))


def check(document: str, ring: KeyRing = RING, kind: str = "rvm-command", purpose: str = "command"):
    return verify(document, ring, kind, purpose, NOW_S)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_signed_comes_out(claims: dict[str, object]) -> None:
    signed = check(KEY.sign(claims, "rvm-command"))
    assert signed.key.key_id == "ops-1"
    assert signed.claims == json.loads(signed.payload)


def test_a_number_that_would_not_come_out_is_not_signed() -> None:
    for number in (2.0**60, 2**53, float("nan")):
        with pytest.raises(ValueError, match="canonical"):
            KEY.sign({"a": number}, "rvm-command")


def test_an_ordinary_jws_library_reads_it() -> None:
    document = KEY.sign({"a": 1}, "rvm-command")
    key = jwt.PyJWK({"kty": "OKP", "crv": "Ed25519", "x": KEY.public}).key
    assert jwt.decode(document, key, algorithms=["EdDSA"]) == {"a": 1}


@given(st.data())
def test_one_changed_character_is_seen(data: st.DataObject) -> None:
    document = KEY.sign({"amount": 12, "to": "alice"}, "rvm-command")
    at = data.draw(st.integers(0, len(document) - 1))
    letter = data.draw(st.sampled_from([chr(code) for code in range(32, 127) if chr(code) != document[at]]))
    changed = document[:at] + letter + document[at + 1 :]
    try:
        signed = check(changed)
    except SignatureError:
        return
    # The last character of a base64url part holds bits that mean nothing: the same bytes, written another way.
    assert signed.claims == {"amount": 12, "to": "alice"}


@given(st.text(max_size=400) | st.from_regex(r"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,90}"))
def test_anything_else_is_refused(document: str) -> None:
    with pytest.raises(SignatureError):
        check(document)


def test_kind_purpose_name_and_time_are_checked() -> None:
    document = KEY.sign({"a": 1}, "rvm-voucher")
    with pytest.raises(SignatureError, match="not of a rvm-command"):
        check(document)
    with pytest.raises(SignatureError, match="may not sign a danger"):
        check(KEY.sign({}, "rvm-command"), purpose="danger")
    with pytest.raises(SignatureError, match="not known"):
        check(SigningKey.generate("who").sign({}, "rvm-command"))
    with pytest.raises(SignatureError, match="does not hold"):
        check(SigningKey.generate("ops-1").sign({}, "rvm-command"))
    for limits in ({"not_after": "2020-01-01T00:00:00Z"}, {"not_before": "2099-01-01T00:00:00Z"}):
        with pytest.raises(SignatureError, match="not valid now"):
            check(KEY.sign({}, "rvm-command"), KeyRing(keys=(public(KEY, **limits),)))


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256"])
def test_no_other_algorithm_passes(algorithm: str) -> None:
    header, payload, _ = KEY.sign({"a": 1}, "rvm-command").split(".")
    forged = {"alg": algorithm, "kid": "ops-1", "typ": "rvm-command"}
    header = base64.urlsafe_b64encode(json.dumps(forged).encode()).rstrip(b"=").decode()
    with pytest.raises(SignatureError):
        check(f"{header}.{payload}.")
    if algorithm == "HS256":  # the public key as the secret: the classic confusion of algorithms
        secret = base64.urlsafe_b64decode(KEY.public + "=")
        with pytest.raises(SignatureError):
            check(jwt.encode({"a": 1}, secret, "HS256", headers=forged))


@pytest.mark.parametrize(
    "payload",
    [b'{"a":1,"a":2}', b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":NaN}', b'{"a":1.0}', b'{"a":1e400}', b"[1]", b"\xff", b"",
     b'{"a":9007199254740993}', b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"a":"\\ud800"}'],
)  # fmt: skip
def test_a_payload_that_is_not_canonical_is_refused_though_signed(payload: bytes) -> None:
    with pytest.raises(SignatureError, match="RFC 8785"):
        parse_canonical(payload)


def test_length_is_bounded_before_anything_is_parsed() -> None:
    with pytest.raises(SignatureError, match=f"allowed: {DOCUMENT_BYTES}"):
        check("x" * (DOCUMENT_BYTES + 1))
    with pytest.raises(SignatureError, match="no compact JWS"):
        check("x" * 1000 + ".a.b")


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "identity" / "voucher.pem"
    made = SigningKey.load_or_make(file)
    again = SigningKey.load_or_make(file)
    assert (made.public, made.key_id) == (again.public, again.key_id)
    assert made.key_id == thumbprint(made.public)
    assert file.stat().st_mode & 0o777 == 0o600
    assert made.public not in repr(made)
    file.chmod(0o644)
    with pytest.raises(StorageError, match="mode 644; allowed: 600"):
        SigningKey.load_or_make(file)
    file.chmod(0o600)
    file.write_bytes(b"nonsense")
    with pytest.raises(StorageError, match="cannot be used as a key"):
        SigningKey.load_or_make(file)


def test_a_ring_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(f"keys:\n- {{key_id: a, public: {KEY.public}, purposes: [command]}}\n")
    assert KeyRing.load(file).find("a") is not None
    first = f"- {{key_id: a, public: {KEY.public}, purposes: [x]}}\n"
    for bad, words in (
        (f"{first}- {{key_id: a, public: {OTHER.public}, purposes: [x]}}", "comes twice"),
        (f"{first}- {{key_id: b, public: {KEY.public}, purposes: [x]}}", "two names"),
        ("- {key_id: a, public: short, purposes: [x]}", "public"),
        (f"- {{key_id: a, public: {KEY.public}, purposes: []}}", "purposes"),
        (f"- {{key_id: a, public: {KEY.public}, purposes: [x], not_after: 2026-01-01 00:00:00}}", "without a zone"),
    ):  # fmt: skip
        file.write_text(f"keys:\n{bad}\n")
        with pytest.raises(SettingsError, match=words):
            KeyRing.load(file)


def test_processes_that_start_together_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        made = list(
            threads.map(lambda _: SigningKey.load_or_make(tmp_path / "identity" / "machine.pem").public, range(64))
        )
    assert len(set(made)) == 1
    assert [path.name for path in (tmp_path / "identity").iterdir()] == ["machine.pem"]
