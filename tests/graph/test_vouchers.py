"""Sessions of all kinds: the real deposit node and buffer; the test plays the cabinet and the cloud bridge."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from myrvm_core.deposit import State
from myrvm_core.session_start import CustomerToken, Offer
from myrvm_core.signing import KeyRing, PublicKey, SigningKey
from myrvm_core.voucher import Voucher, digest
from myrvm_interfaces.msg import CloudStatus, Session, SessionOffer
from myrvm_interfaces.msg import Voucher as VoucherMessage
from myrvm_interfaces.srv import Authorize, CustomerAuthorized, DismissVoucher, EndSession, StartSession
from played_cabinet import SHORT, PlayedCabinet, lease
from server_process import API_KEY, ServerProcess

from myrvm_ros import qos

SETTINGS = SHORT | {"server_url": "https://server.example.org", "next_user_s": 0.0}


class Phones(PlayedCabinet):
    """A cabinet whose screen the test reads as phones do."""

    def __init__(self, graph: Any, told: bool = True) -> None:
        super().__init__(graph)
        self.vouchers = graph.listen(VoucherMessage, "deposit/voucher", qos.STATE)
        self.offers = graph.listen(SessionOffer, "deposit/offer", qos.STATE)
        self._cloud = graph.node.create_publisher(CloudStatus, "cloud/status", qos.STATE)
        if told:
            self.tell_time()

    def tell_time(self, offset_s: float = 0.0) -> None:
        """As the bridge does once the server has answered a heartbeat."""
        self._cloud.publish(CloudStatus(state=CloudStatus.ONLINE, round_trip_s=0.05, clock_offset_s=offset_s))

    def restart(self) -> None:
        self.vouchers.clear()
        self.graph.bring_up("deposit", **SETTINGS)

    def start(self, **request: Any) -> StartSession.Response:
        return self.graph.call(StartSession, "deposit/start_session", StartSession.Request(**request))

    def end(self, session: Session) -> EndSession.Response:
        return self.graph.call(EndSession, "deposit/end_session", EndSession.Request(session_id=session.session_id))

    def take(self, count: int = 1) -> None:
        """The gate takes the item, whose command is number `count`."""
        self.wait_for_command(count)
        self.fall()
        self.wait_for_result(count)
        self.finish()

    def wait_for_voucher(self) -> VoucherMessage:
        self.graph.wait(lambda: self.vouchers and self.vouchers[-1].voucher_id, "a voucher")
        return self.vouchers[-1]

    def read(self, kind: Any, link: str) -> Any:
        page, document = link.split("#")
        assert page == f"https://server.example.org/{'v' if kind is Voucher else 's'}"
        key = SigningKey.load_or_make(self.graph.folder / "var" / "identity" / "voucher.pem")
        public = PublicKey(key_id=key.key_id, public=key.public, purposes=frozenset({"voucher", "offer"}))
        return kind.read(document, KeyRing(keys=(public,)), time.time())[0]


@pytest.fixture
def phones(graph: Any) -> Phones:
    """A machine that waits for a customer; nothing answers `cloud/authorize`."""
    built = Phones(graph)
    graph.bring_up("offline_buffer")
    graph.bring_up("deposit", **SETTINGS)
    built.wait_for(State.IDLE)
    return built


def test_a_voucher_holds_what_entered_in_the_session_and_is_the_same_after_a_crash(phones: Phones) -> None:
    started = phones.start(kind=Session.KIND_ACCOUNT, token="who-knows", or_voucher=True)
    assert (started.started, started.session.kind) == (True, Session.KIND_VOUCHER)
    assert started.session.account_id == started.session.session_id
    phones.enter()
    phones.take()
    phones.wait_for(State.SESSION)
    phones.enter()
    phones.wait_for_command(2)
    assert phones.end(started.session).items == 1
    assert not phones.vouchers[-1].voucher_id, "signed while an item is in the gate"
    phones.take(2)
    message = phones.wait_for_voucher()
    voucher = phones.read(Voucher, message.link)
    assert (message.items, message.points, voucher.items, voucher.points) == (2, 20, 2, 20)
    assert message.voucher_id == voucher.voucher_id == started.session.session_id
    records = lease(phones)
    assert {record.session.account_id for record in records} == {voucher.voucher_id}
    assert voucher.deposits == digest(record.deposit_id for record in records)
    for _ in range(2):
        phones.kill()
        phones.restart()
        assert phones.wait_for_voucher().link == message.link, "another voucher for the same session"
    request = DismissVoucher.Request(voucher_id=message.voucher_id)
    assert phones.graph.call(DismissVoucher, "deposit/dismiss_voucher", request).dismissed
    phones.graph.wait(lambda: not phones.vouchers[-1].voucher_id, "the screen is free")
    phones.kill()
    phones.restart()
    phones.wait_for(State.IDLE)
    assert not phones.vouchers[-1].voucher_id, "shown to the next customer"


def test_killed_after_the_end_of_the_session_the_item_in_the_gate_is_in_the_voucher(phones: Phones) -> None:
    started = phones.start(kind=Session.KIND_VOUCHER)
    assert started.started
    phones.enter()
    phones.take()
    phones.wait_for(State.SESSION)
    phones.enter()
    phones.wait_for_command(2)
    assert phones.end(started.session).ended
    phones.kill()
    phones.fall()
    phones.finish()
    phones.restart()
    voucher = phones.read(Voucher, phones.wait_for_voucher().link)
    assert (voucher.voucher_id, voucher.items, voucher.points) == (started.session.session_id, 2, 20)
    assert phones.results[-1].recovered
    phones.wait_for(State.IDLE)
    assert len(lease(phones)) == 2


def test_nobody_begins_before_the_last_customer_has_seen_his_voucher(graph: Any) -> None:
    phones = Phones(graph)
    graph.bring_up("offline_buffer")
    graph.bring_up("deposit", **SETTINGS | {"next_user_s": 600.0})
    phones.wait_for(State.IDLE)
    started = phones.start(kind=Session.KIND_VOUCHER)
    phones.enter()
    phones.take()
    assert phones.end(started.session).ended
    voucher = phones.wait_for_voucher()
    phones.wait_for(State.IDLE)
    assert phones.start(kind=Session.KIND_DONATION).refusal == StartSession.Request.REFUSED_BUSY
    request = DismissVoucher.Request(voucher_id=voucher.voucher_id)
    assert phones.graph.call(DismissVoucher, "deposit/dismiss_voucher", request).dismissed
    assert not phones.graph.call(DismissVoucher, "deposit/dismiss_voucher", request).dismissed
    assert phones.start(kind=Session.KIND_DONATION).started
    authorized = CustomerAuthorized.Request(offer_id=phones.offers[-1].offer_id, account_id="alice")
    answer = phones.graph.call(CustomerAuthorized, "deposit/authorized", authorized)
    assert answer.refusal == StartSession.Request.REFUSED_BUSY, "the session has not rested"


def test_a_server_that_knows_no_offers_opens_sessions_but_ends_none(graph: Any) -> None:
    phones = Phones(graph)
    graph.bring_up("offline_buffer")
    graph.bring_up("deposit", **SETTINGS | {"server_profile": "myrvm-server"})
    phones.wait_for(State.IDLE)
    assert not phones.offers[-1].offer_id
    assert phones.start(kind=Session.KIND_VOUCHER).refusal == StartSession.Request.REFUSED_INVALID
    offline = phones.start(kind=Session.KIND_ACCOUNT, token="who", or_voucher=True)
    assert offline.refusal == StartSession.Request.REFUSED_OFFLINE, "that server redeems no vouchers"
    for account_id, begun in (("7", True), ("8", False)):
        authorized = CustomerAuthorized.Request(account_id=account_id)
        assert phones.graph.call(CustomerAuthorized, "deposit/authorized", authorized).started is begun


def test_without_the_time_there_is_no_voucher_and_no_offer_until_the_server_tells_its_own(graph: Any) -> None:
    phones = Phones(graph, told=False)
    graph.bring_up("offline_buffer")
    graph.bring_up("deposit", **{**SETTINGS, "vouchers": "always"})
    phones.wait_for(State.IDLE)
    graph.wait(lambda: phones.offers, "the news that there is no offer")
    assert phones.offers[-1].link == ""
    refused = phones.start(kind=Session.KIND_VOUCHER)
    assert (refused.started, refused.refusal) == (False, StartSession.Request.REFUSED_CLOCK)
    refused = phones.start(kind=Session.KIND_ACCOUNT, token="who-knows", or_voucher=True)
    assert (refused.started, refused.refusal) == (False, StartSession.Request.REFUSED_CLOCK)
    ahead_s = 400 * 86_400.0
    phones.tell_time(ahead_s)
    graph.wait(lambda: phones.offers[-1].link, "an offer")
    offer = phones.read(Offer, phones.offers[-1].link)
    assert 0 < offer.expires_at - time.time() - ahead_s <= 120
    started = phones.start(kind=Session.KIND_VOUCHER)
    assert started.started
    phones.enter()
    phones.take()
    phones.end(started.session)
    voucher = phones.read(Voucher, phones.wait_for_voucher().link)
    assert abs(voucher.issued_at - time.time() - ahead_s) < 60
    assert voucher.expires_at - voucher.issued_at == 90 * 86_400


def test_an_offer_begins_one_session(phones: Phones) -> None:
    phones.graph.wait(lambda: phones.offers and phones.offers[-1].offer_id, "an offer")
    offer = phones.offers[-1]
    assert phones.read(Offer, offer.link).offer_id == offer.offer_id

    def authorized(offer_id: str, account_id: str = "alice") -> CustomerAuthorized.Response:
        request = CustomerAuthorized.Request(offer_id=offer_id, account_id=account_id)
        return phones.graph.call(CustomerAuthorized, "deposit/authorized", request)

    assert authorized("").refusal == StartSession.Request.REFUSED_OFFER
    assert authorized("x" * 22).refusal == StartSession.Request.REFUSED_OFFER
    assert authorized(offer.offer_id, "").refusal == StartSession.Request.REFUSED_INVALID
    begun = authorized(offer.offer_id)
    assert (begun.started, begun.session.kind, begun.session.account_id) == (True, Session.KIND_ACCOUNT, "alice")
    assert authorized(offer.offer_id).refusal == StartSession.Request.REFUSED_OFFER
    phones.graph.wait(lambda: phones.offers[-1].offer_id != offer.offer_id, "another offer")
    next_user = authorized(phones.offers[-1].offer_id, "budi")
    assert next_user.session.account_id == "budi", "the next user takes the place of a session that rests"
    assert phones.start(kind=Session.KIND_DONATION).refusal == StartSession.Request.REFUSED_BUSY


def test_tokens_and_codes_with_the_server_and_without(graph: Any, tmp_path: Path) -> None:
    reachable = True

    def answer(request: Authorize.Request, response: Authorize.Response) -> Authorize.Response:
        response.reachable = reachable
        response.authorized = reachable and request.token in ("123456", "token-alice")
        response.account_id = "alice" if response.authorized else ""
        return response

    key = SigningKey.generate("server-1")
    keys = tmp_path / "keys.yaml"
    keys.write_text(yaml.safe_dump({"keys": [{"key_id": "server-1", "public": key.public, "purposes": ["customer"]}]}))
    phones = Phones(graph)
    graph.node.create_service(Authorize, "cloud/authorize", answer)
    graph.bring_up("offline_buffer")
    graph.bring_up("deposit", **SETTINGS | {"keys_file": str(keys), "authorize_s": 30.0})
    phones.wait_for(State.IDLE)

    def refusal(**request: Any) -> int:
        started = phones.start(**request)
        if started.started:
            assert phones.end(started.session).ended
        return started.refusal

    account, voucher, request = Session.KIND_ACCOUNT, Session.KIND_VOUCHER, StartSession.Request
    assert refusal(kind=voucher) == request.REFUSED_ONLINE
    assert refusal(kind=account, token="nobody", or_voucher=True) == request.REFUSED_NOT_AUTHORIZED
    assert refusal(kind=account, token="123456") == request.REFUSED_NONE
    tries = [refusal(kind=account, token="000000") for _ in range(6)]
    assert tries == [request.REFUSED_NOT_AUTHORIZED] * 5 + [request.REFUSED_TRIES]
    assert refusal(kind=account, token="token-alice") == request.REFUSED_NONE, "tokens are no codes"
    reachable = False
    assert refusal(kind=voucher) == request.REFUSED_NONE
    assert refusal(kind=account, token="token-alice") == request.REFUSED_OFFLINE
    good = CustomerToken(account_id="budi", expires_at=2**33).sign(key)
    started = phones.start(kind=account, token=good)
    assert (started.started, started.session.account_id) == (True, "budi")
    assert phones.end(started.session).ended
    for bad in (
        CustomerToken(account_id="budi", expires_at=1).sign(key),
        CustomerToken(account_id="budi", expires_at=2**33, machine="another").sign(key),
        CustomerToken(account_id="budi", expires_at=2**33).sign(SigningKey.generate("server-1")),
    ):
        assert refusal(kind=account, token=bad) == request.REFUSED_NOT_AUTHORIZED


def test_from_a_machine_without_a_network_to_an_account(
    graph: Any, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RVM_API_KEY", API_KEY)
    monkeypatch.setenv("HARDWARE_ID", "rvm-7")
    server.faults(down=True)
    phones = Phones(graph)
    graph.bring_up("offline_buffer")
    graph.bring_up("cloud_bridge", server_url=server.url, backoff_base_s=0.05, backoff_cap_s=0.3)
    graph.bring_up("deposit", **SETTINGS | {"server_url": server.url, "authorize_s": 30.0})
    phones.wait_for(State.IDLE)
    started = phones.start(kind=Session.KIND_ACCOUNT, token="token-alice", or_voucher=True)
    assert started.session.kind == Session.KIND_VOUCHER
    phones.enter()
    phones.take()
    assert phones.end(started.session).ended
    page, document = phones.wait_for_voucher().link.split("#")
    assert page == f"{server.url}/v"

    def app(call: str, document: str) -> int:
        body = json.dumps({"token": "token-alice", "document": document}).encode()
        try:
            with urllib.request.urlopen(f"{server.url}/api/v1/app/{call}", body, timeout=60.0) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert app("redeem", document) == 422, "a machine that was never online"
    server.faults()
    graph.wait(lambda: app("redeem", document) == 200, "the machine to be known")
    graph.wait(lambda: server.credited(), "the deposit at the server")
    assert server.ledger()["balances"] == {"alice": 10, "budi": 0, "donations": 0, "unclaimed": 0}

    def begun() -> bool:
        app("session", phones.offers[-1].link.split("#")[1])  # again: before the bridge listens an event is lost
        return phones.states[-1].session.account_id == "alice"

    graph.wait(begun, "the session that the app has begun")
