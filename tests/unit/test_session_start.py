"""How a customer becomes known: offers, tokens that hold offline, codes that are not guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import SignatureError
from myrvm_core.session_start import OFFERS_KEPT, CodeTries, CustomerToken, Offer, Offers, account_of
from myrvm_core.signing import KeyRing, PublicKey, SigningKey

KEY = SigningKey.generate("machine-1")


def ring(key: SigningKey, purpose: str) -> KeyRing:
    return KeyRing(keys=(PublicKey(key_id=key.key_id, public=key.public, purposes=frozenset({purpose})),))


def test_an_offer_is_taken_once_and_while_it_is_good() -> None:
    offers = Offers(KEY, "rvm-7", 60.0)
    offer, document = offers.renew(1000.0)
    assert Offer.read(document, ring(KEY, "offer"), 1000.0)[0] == offer
    assert (offer.machine, offer.expires_at) == ("rvm-7", 1060)
    assert offers.good(offer.offer_id, 1059.9)
    assert not offers.good(offer.offer_id, 1060.0)
    later, _ = offers.renew(1030.0)
    assert later.offer_id != offer.offer_id
    assert offers.good(offer.offer_id, 1030.0), "a phone that reads the code while it changes"
    offers.take(offer.offer_id)
    assert not offers.good(offer.offer_id, 1030.0)
    assert not offers.good("", 1030.0)


def test_offers_that_are_remembered_are_bounded() -> None:
    offers = Offers(KEY, "rvm-7", 60.0)
    made = [offers.renew(0.0)[0].offer_id for _ in range(OFFERS_KEPT + 5)]
    assert [offers.good(offer_id, 0.0) for offer_id in made] == [False] * 5 + [True] * OFFERS_KEPT


def test_a_token_says_whose_it_is_until_it_expires_and_where_it_is_meant_for() -> None:
    server = SigningKey.generate("server-1")
    trusted = ring(server, "customer")
    token = CustomerToken(account_id="alice", expires_at=2000)
    assert account_of(token.sign(server), trusted, "rvm-7", 1999.0) == "alice"
    with pytest.raises(SignatureError, match="expired 0 s ago"):
        account_of(token.sign(server), trusted, "rvm-7", 2000.0)
    here = CustomerToken(account_id="alice", expires_at=2000, machine="rvm-7").sign(server)
    assert account_of(here, trusted, "rvm-7", 0.0) == "alice"
    with pytest.raises(SignatureError, match="for machine rvm-7; this is rvm-8"):
        account_of(here, trusted, "rvm-8", 0.0)
    with pytest.raises(SignatureError, match="not known"):
        account_of(token.sign(server), KeyRing(), "rvm-7", 0.0)
    with pytest.raises(SignatureError, match="may not sign"):
        account_of(token.sign(server), ring(server, "command"), "rvm-7", 0.0)


@given(st.lists(st.floats(0.0, 100.0), max_size=60), st.integers(1, 5))
def test_no_more_codes_are_tried_than_come_back(waits: list[float], limit: int) -> None:
    tries, now_s, spent = CodeTries(limit, 30.0), 0.0, 0
    for wait_s in waits:
        now_s += wait_s
        spent += tries.spend(now_s)
    assert spent <= limit + now_s / 30.0


def test_a_right_code_costs_no_try() -> None:
    tries = CodeTries(1, 30.0)
    for _ in range(10):
        assert tries.spend(0.0)
        tries.give_back()
    assert tries.spend(0.0)
    assert not tries.spend(29.0)
    assert tries.spend(30.0)
