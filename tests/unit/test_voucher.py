"""Vouchers as documents and as QR codes: what is signed, what is refused, how large the code becomes."""

from __future__ import annotations

from uuid import UUID

import cv2
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.claims import link
from myrvm_core.errors import SignatureError
from myrvm_core.qr_code import VERSION_LIMIT, png, qr_code, svg
from myrvm_core.session_start import Offer
from myrvm_core.signing import KeyRing, PublicKey, SigningKey
from myrvm_core.voucher import PAGE, Voucher, digest

KEY = SigningKey("0123456789abcdef", Ed25519PrivateKey.from_private_bytes(bytes(32)))  # the same picture each time
RING = KeyRing(keys=(PublicKey(key_id=KEY.key_id, public=KEY.public, purposes=frozenset({"voucher"})),))
IDS = [str(UUID(int=number)) for number in range(1, 4)]
VOUCHER = Voucher(
    voucher_id=str(UUID(int=7)), machine="rvm-jakarta-0042", items=3, points=30, deposits=digest(IDS),
    issued_at=1_796_000_000, expires_at=1_803_776_000,
)  # fmt: skip
LARGEST = Voucher(
    voucher_id=str(UUID(int=2**128 - 1)), machine="m" * 100, items=65_535, points=2**32 - 1, deposits=digest([]),
    issued_at=2**40 - 1, expires_at=2**40 - 1,
)  # fmt: skip


def test_what_is_signed_comes_out() -> None:
    assert Voucher.read(VOUCHER.sign(KEY), RING, 0.0) == (VOUCHER, RING.keys[0])


def test_the_digest_names_a_set_of_deposits() -> None:
    assert digest(IDS) == digest(reversed(IDS)) == digest({*IDS})
    assert digest(IDS) != digest(IDS[:2])


@given(st.binary(max_size=40), st.integers(0, 2000))
def test_an_altered_voucher_is_refused(change: bytes, at: int) -> None:
    document = VOUCHER.sign(KEY)
    altered = document[:at] + change.decode("latin-1") + document[at + len(change) :]
    try:
        voucher, _ = Voucher.read(altered, RING, 0.0)
    except SignatureError:
        return
    assert voucher == VOUCHER, "the same bytes, written another way"


def test_what_is_signed_and_no_voucher_is_refused() -> None:
    claims = VOUCHER.model_dump()
    for changed in (
        claims | {"points": -1},
        claims | {"items": 0},
        claims | {"items": True},
        claims | {"voucher_id": "x"},
        claims | {"more": 1},
        {name: value for name, value in claims.items() if name != "points"},
    ):
        with pytest.raises(SignatureError, match="signed, but no rvm-voucher"):
            Voucher.read(KEY.sign(changed, Voucher.KIND), RING, 0.0)
    with pytest.raises(SignatureError, match="not of a rvm-voucher"):
        Voucher.read(Offer(offer_id="x" * 22, machine="m", expires_at=1).sign(KEY), RING, 0.0)


def test_the_code_stays_small_enough_for_a_phone() -> None:
    server = "https://server.example.org"
    usual, largest = (qr_code(link(server, PAGE, voucher.sign(KEY))) for voucher in (VOUCHER, LARGEST))
    assert (usual.version, usual.error) == (17, "M")
    assert largest.version == 19 < VERSION_LIMIT
    with pytest.raises(ValueError, match="allowed: 20"):
        qr_code("x" * 667)


def test_the_code_comes_as_a_picture() -> None:
    text = link("https://server.example.org", PAGE, VOUCHER.sign(KEY))
    assert svg(text).startswith(b"<svg")
    picture = cv2.imdecode(np.frombuffer(png(text), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert cv2.QRCodeDetectorAruco().detectAndDecode(picture)[0] == text, "another program reads it"


def test_behind_the_hash_the_document_is_in_no_request() -> None:
    assert link("https://server.example.org/rvm/", PAGE, "a.b.c") == "https://server.example.org/rvm/v#a.b.c"
    assert link("", PAGE, "a.b.c") == "a.b.c"
