"""The reference server redeems each voucher once: in every order of deposits, repetitions, revocations and time."""

from __future__ import annotations

import base64
import json
import random
import re
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from myrvm_core.session_start import CustomerToken, Offers
from myrvm_core.signing import KeyRing, SigningKey
from myrvm_core.voucher import Voucher, digest
from myrvm_sim.phone_page import LANGUAGES, TEXTS
from myrvm_sim.reference_server import DEMO_KEY, ReferenceServer
from myrvm_sim.vouchers import UNCLAIMED, Outcome

MACHINE = "rvm-7"
KEY = SigningKey.generate()
NOW_S = 1_800_000_000
DAY_S = 86_400
HEADERS = {"X-RVM-API-KEY": DEMO_KEY, "X-Machine-UUID": MACHINE}


def deposit_id(voucher: int, number: int) -> str:
    return str(UUID(int=0x7000 + 100 * voucher + number))


def row(voucher: int, number: int, points: int) -> dict[str, Any]:
    voucher_id = str(UUID(int=voucher))
    return {
        "idempotency_key": deposit_id(voucher, number), "session_id": voucher_id, "kind": "voucher",
        "account_id": voucher_id, "class_name": "mineral", "score": 0.9, "points": points, "weight_kg": None,
        "accepted_at": 1.5, "model": {"name": "net", "version": "1", "sha256": ""},
    }  # fmt: skip


def made(voucher: int, points: list[int], **changes: Any) -> Voucher:
    claims = {
        "voucher_id": str(UUID(int=voucher)), "machine": MACHINE, "items": len(points), "points": sum(points),
        "deposits": digest(deposit_id(voucher, number) for number in range(len(points))),
        "issued_at": NOW_S, "expires_at": NOW_S + 90 * DAY_S,
    }  # fmt: skip
    return Voucher.model_validate(claims | changes)


def opened(database: str = ":memory:") -> ReferenceServer:
    server = ReferenceServer(database)
    server.vouchers.now_s = server.visits.now_s = lambda: NOW_S
    server.vouchers.enrol(MACHINE, KEY.public)
    return server


def deliver(server: ReferenceServer, *rows: dict[str, Any], machine: str = MACHINE) -> list[str]:
    with server.transaction():
        return [server._judge(row, machine).status.value for row in rows]


class Orders(RuleBasedStateMachine):
    """Three vouchers of one machine, two customers, an operator, and time that passes."""

    VOUCHERS = ((0, [5]), (1, [5, 10]), (2, [1, 2, 3]))

    def __init__(self) -> None:
        super().__init__()
        self.server = opened()
        self.server.vouchers.now_s = lambda: self.now_s
        self.now_s = NOW_S + 10
        lifetimes = (DAY_S, 3 * DAY_S, 90 * DAY_S)
        self.documents = [
            made(voucher, points, expires_at=NOW_S + lifetimes[voucher]).sign(KEY) for voucher, points in self.VOUCHERS
        ]
        self.lifetimes = lifetimes
        self.arrived: dict[tuple[int, int], int] = {}
        self.redeemed: dict[int, str] = {}
        self.revoked: set[int] = set()
        self.key_revoked_from: int | None = None

    def teardown(self) -> None:
        self.server.connection.close()

    @rule(voucher=st.integers(0, 2), number=st.integers(0, 2))
    def deposit_arrives(self, voucher: int, number: int) -> None:
        points = self.VOUCHERS[voucher][1]
        number %= len(points)
        (status,) = deliver(self.server, row(voucher, number, points[number]))
        assert status == ("duplicate" if (voucher, number) in self.arrived else "credited")
        self.arrived.setdefault((voucher, number), self.now_s)

    @rule(voucher=st.integers(0, 2), account=st.sampled_from(["alice", "budi"]))
    def redeem(self, voucher: int, account: str) -> None:
        redemption = self.server.vouchers.redeem(self.documents[voucher], account)
        assert redemption.outcome is self.expected(voucher, account)
        if redemption.outcome is Outcome.REDEEMED:
            self.redeemed[voucher] = account
        assert redemption.points == (sum(self.VOUCHERS[voucher][1]) if self.redeemed.get(voucher) == account else 0)

    def expected(self, voucher: int, account: str) -> Outcome:
        if voucher in self.redeemed:
            return Outcome.ALREADY_YOURS if self.redeemed[voucher] == account else Outcome.ALREADY_REDEEMED
        if voucher in self.revoked:
            return Outcome.REVOKED
        if self.key_revoked_from is not None:
            numbers = range(len(self.VOUCHERS[voucher][1]))
            times = [self.arrived.get((voucher, number), self.now_s + 1) for number in numbers]
            if self.key_revoked_from <= NOW_S or max(times) >= self.key_revoked_from:
                return Outcome.REVOKED
        return Outcome.EXPIRED if self.now_s >= NOW_S + self.lifetimes[voucher] else Outcome.REDEEMED

    @rule(voucher=st.integers(0, 2))
    def revoke(self, voucher: int) -> None:
        self.server.vouchers.revoke_voucher(str(UUID(int=voucher)))
        self.revoked.add(voucher)

    @precondition(lambda self: self.key_revoked_from is None)
    @rule(back_s=st.sampled_from([0, 5, DAY_S, 10 * DAY_S]))
    def revoke_key(self, back_s: int) -> None:
        self.key_revoked_from = self.now_s - back_s
        assert self.server.vouchers.revoke_key(KEY.key_id, self.key_revoked_from)

    @rule(passed_s=st.sampled_from([1, 3600, DAY_S, 60 * DAY_S]))
    def time_passes(self, passed_s: int) -> None:
        self.now_s += passed_s

    @invariant()
    def each_voucher_is_credited_once_and_exactly(self) -> None:
        balances = self.server._balances()
        for account in ("alice", "budi"):
            owned = [voucher for voucher, owner in self.redeemed.items() if owner == account]
            assert balances[account] == sum(sum(self.VOUCHERS[voucher][1]) for voucher in owned)
        deposited = sum(self.VOUCHERS[voucher][1][number] for voucher, number in self.arrived)
        taken = sum(sum(self.VOUCHERS[voucher][1]) for voucher in self.redeemed)
        assert balances.get(UNCLAIMED, 0) == deposited - taken
        assert balances["donations"] == 0
        for line in self.server.vouchers.statement():
            voucher = UUID(line["voucher_id"]).int
            complete = sum(arrived == voucher for arrived, _ in self.arrived) == len(self.VOUCHERS[voucher][1])
            assert line["agrees"] == (voucher in self.redeemed and complete)


Orders.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestOrders = Orders.TestCase


def test_requests_at_the_same_time_credit_it_once(tmp_path: Path) -> None:
    document = made(1, [10]).sign(KEY)
    database = str(tmp_path / "server.db")
    server = opened(database)
    outcomes: list[Outcome] = []
    start = threading.Barrier(4)

    def redeem(number: int) -> None:
        server = opened(database)  # as another process of the server
        start.wait()
        outcomes.append(server.vouchers.redeem(document, ("alice", "budi")[number % 2]).outcome)
        server.connection.close()

    threads = [threading.Thread(target=redeem, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert sorted(outcomes) == sorted([Outcome.REDEEMED, Outcome.ALREADY_YOURS, *[Outcome.ALREADY_REDEEMED] * 2])
    balances = server._balances()
    assert balances["alice"] + balances["budi"] == 10
    server.connection.close()


def refused(server: ReferenceServer, document: str) -> str:
    redemption = server.vouchers.redeem(document, "alice")
    assert redemption.outcome is Outcome.NOT_VALID
    assert redemption.points == 0
    return redemption.reason


def test_what_no_machine_has_signed_is_refused_with_the_reason() -> None:
    server, good = opened(), made(1, [10])
    header, _, signature = good.sign(KEY).split(".")
    richer = base64.urlsafe_b64encode(json.dumps(good.model_dump() | {"points": 9999}).encode()).rstrip(b"=").decode()
    assert "does not hold" in refused(server, f"{header}.{richer}.{signature}")
    assert "no machine's that is known" in refused(server, good.sign(SigningKey.generate()))
    assert "does not hold" in refused(server, good.sign(SigningKey.generate(KEY.key_id)))
    assert "not of a rvm-voucher" in refused(server, Offers(KEY, MACHINE, 60.0).renew(NOW_S)[1])
    assert "rvm-7 has signed it" in refused(server, made(1, [10], machine="rvm-8").sign(KEY))
    assert "no rvm-voucher" in refused(server, KEY.sign(good.model_dump() | {"points": -1}, Voucher.KIND))
    assert "allowed: 16384" in refused(server, "x" * 20_000)
    assert server._balances()["alice"] == 0


SERVER = opened()


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,90}"))
def test_nothing_else_is_taken_for_a_voucher(document: str) -> None:
    assert refused(SERVER, document)


def test_another_machines_deposits_prove_nothing_for_a_stolen_key() -> None:
    server = opened()
    deliver(server, row(1, 0, 10), machine="rvm-8")
    server.vouchers.now_s = lambda: NOW_S + 20
    assert server.vouchers.revoke_key(KEY.key_id, NOW_S + 10)
    assert not server.vouchers.revoke_key("nobody", NOW_S)
    assert server.vouchers.redeem(made(1, [10]).sign(KEY), "alice").outcome is Outcome.REVOKED


def test_a_second_voucher_for_a_session_is_worth_nothing() -> None:
    server = opened()
    assert server.vouchers.redeem(made(1, [10]).sign(KEY), "alice").outcome is Outcome.REDEEMED
    assert server.vouchers.redeem(made(1, [10, 50]).sign(KEY), "budi").outcome is Outcome.ALREADY_REDEEMED
    assert server.vouchers.redeem(made(1, [10, 50]).sign(KEY), "alice").points == 10


# Over HTTP: pages and the app's calls


class Phone:
    """A phone at a running server whose events to machines are written down."""

    def __init__(self, http: TestClient[Any, Any], events: list[tuple[str, str, Any]]) -> None:
        self.http, self.events = http, events

    async def submit(self, page: str, language: str = "en", **form: str) -> tuple[int, str]:
        async with self.http.post(f"/{page}", data=form, headers={"Accept-Language": language}) as answer:
            return answer.status, await answer.text()

    async def app(self, call: str, **body: str) -> tuple[int, Any]:
        async with self.http.post(f"/api/v1/app/{call}", json=body) as answer:
            return answer.status, await answer.json()

    async def machine(self, call: str, **body: Any) -> tuple[int, Any]:
        async with self.http.post(f"/api/v1/edge/{call}", json=body, headers=HEADERS) as answer:
            return answer.status, await answer.json()

    async def balance(self, account: str) -> int:
        async with self.http.get("/api/v1/ledger") as answer:
            return (await answer.json())["balances"][account]


@pytest_asyncio.fixture
async def phone() -> AsyncIterator[Phone]:
    server, events = ReferenceServer(":memory:"), []

    async def note(machine: str, event: str, data: Any) -> int:
        events.append((machine, event, data))
        return 1

    server.raw.send = note  # type: ignore[method-assign]
    async with TestClient(TestServer(server.application())) as client:
        phone = Phone(client, events)
        handshake = {"hardware_id": MACHINE, "software_version": "1", "voucher_key": KEY.public}
        assert (await phone.machine("handshake", **handshake))[0] == 200
        yield phone


def fresh(voucher: int, points: list[int]) -> str:
    return made(voucher, points, expires_at=int(time.time()) + DAY_S).sign(KEY)


async def test_a_phone_redeems_what_it_has_scanned(phone: Phone) -> None:
    link = f"https://server.example.org/v#{fresh(1, [5, 10])}"
    for _ in range(2):
        status, _ = await phone.machine("deposits", deposits=[row(1, 0, 5), row(1, 1, 10)])
        assert status == 200
    status, page = await phone.submit("v", token="token-alice", document=link)
    assert (status, TEXTS["en"]["redeemed"].format(points=15) in page) == (200, True)
    status, page = await phone.submit("v", "id-ID,en;q=0.5", token="token-alice", document=link)
    assert (status, TEXTS["id"]["already_yours"].format(points=15) in page) == (200, True)
    status, page = await phone.submit("v", token="token-budi", document=link)
    assert (status, TEXTS["en"]["already_redeemed"] in page) == (409, True)
    status, _ = await phone.submit("v", token="token-alice", document=made(2, [1], expires_at=1).sign(KEY))
    assert status == 410
    assert [await phone.balance(account) for account in ("alice", "budi", UNCLAIMED)] == [15, 0, 0]
    assert (await phone.app("redeem", token="token-alice", document=fresh(3, [1]))) == (
        200, {"outcome": "redeemed", "points": 1}
    )  # fmt: skip
    status, answer = await phone.app("redeem", token="token-budi", document=fresh(3, [1]))
    assert (status, answer["message"]) == (409, TEXTS["en"]["already_redeemed"])


async def test_the_operator_takes_a_stolen_key_back(phone: Phone) -> None:
    async with phone.http.post("/vouchers/revoke", json={"key_id": KEY.key_id, "from_s": 1.0}) as answer:
        assert answer.status == 200
    status, page = await phone.submit("v", token="token-alice", document=fresh(1, [5]))
    assert (status, TEXTS["en"]["revoked"] in page) == (403, True)
    async with phone.http.post("/vouchers/revoke", json={"key_id": "nobody"}) as answer:
        assert answer.status == 404
    async with phone.http.get("/vouchers") as answer:
        assert await answer.json() == {"vouchers": []}


@pytest.mark.parametrize("page", ["v", "s"])
@pytest.mark.parametrize(
    ("accepted", "language"), [("", "en"), ("id", "id"), ("en-GB,id;q=0.9", "en"), ("nl;q=x", "en")]
)
async def test_a_page_says_what_it_is_and_needs_no_script(
    phone: Phone, page: str, accepted: str, language: str
) -> None:
    async with phone.http.get(f"/{page}", headers={"Accept-Language": accepted}) as answer:
        text, headers = await answer.text(), answer.headers
    assert f'<html lang="{language}">' in text
    assert f"<h1>{TEXTS[language][page]}</h1>" in text
    assert len(re.findall(r"<label for=", text)) == len(re.findall(r"<(?:input|textarea) id=", text)) == 2
    assert "<noscript>" in text
    assert not re.search(r"<script>|<style|\s(style|on\w+)=", text), "the policy lets nothing inline run"
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    for asset in ("phone.js", "phone.css"):
        async with phone.http.get(f"/{asset}") as answer:
            assert answer.status == 200


def test_both_languages_say_everything() -> None:
    fields = {
        language: {name: re.findall(r"{\w+}", text) for name, text in TEXTS[language].items()} for language in TEXTS
    }
    assert set(fields) == set(LANGUAGES)
    assert fields["en"] == fields["id"]


async def test_what_is_shown_again_is_escaped(phone: Phone) -> None:
    status, page = await phone.submit("v", token="nobody", document='"></textarea><script>alert(1)</script>')
    assert status == 403
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page, "the customer corrects the account only"


async def test_a_scanned_offer_begins_a_session_for_one_customer(phone: Phone) -> None:
    offers = Offers(KEY, MACHINE, 60.0)
    offer, document = offers.renew(time.time())
    assert await phone.app("session", token="token-alice", document=document) == (200, {"machine": MACHINE})
    machine, event, data = phone.events[-1]
    assert (machine, event, data["offer_id"], data["user"]["id"]) == (
        MACHINE, "session.authorized", offer.offer_id, "alice"
    )  # fmt: skip
    status, _ = await phone.submit("s", token="token-alice", document=f"https://server.example.org/s#{document}")
    assert (status, len(phone.events)) == (200, 2), "by the same one again, the event may have been lost"
    assert (await phone.app("session", token="token-budi", document=document))[0] == 410
    assert (await phone.submit("s", token="token-budi", document=document))[0] == 410
    assert (await phone.app("session", token="token-budi", document=offers.renew(0.0)[1]))[0] == 410
    assert len(phone.events) == 2


async def test_codes_and_tokens_stand_for_an_account_at_a_machine(phone: Phone) -> None:
    _, first = await phone.app("code", token="token-alice")
    _, second = await phone.app("code", token="token-alice")
    if first != second:
        assert (await phone.machine("authorize", token=first["code"]))[0] == 404, "the last one holds"
    status, customer = await phone.machine("authorize", token=second["code"])
    assert (status, customer["account_id"]) == (200, "alice")
    assert (await phone.machine("authorize", token=second["code"]))[0] == 404, "once"
    _, answer = await phone.app("token", token="token-budi")
    assert len(answer["token"]) <= 512, "as StartSession takes it"
    for _ in range(2):
        status, customer = await phone.machine("authorize", token=answer["token"])
        assert (status, customer["account_id"]) == (200, "budi")
    async with phone.http.get("/keys") as keys:
        ring = KeyRing.model_validate(await keys.json())
    assert CustomerToken.read(answer["token"], ring, 0.0)[0].account_id == "budi"
    for call in ("code", "token"):
        assert (await phone.app(call, token="nobody"))[0] == 403
        assert (await phone.app(call, token=answer["token"]))[0] == 403, "no second one out of the first"


async def test_whatever_a_phone_sends_the_server_stands(phone: Phone) -> None:
    chance = random.Random(3)
    good = urlencode({"token": "token-alice", "document": fresh(1, [5])}).encode()
    types = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "application/json")
    for _ in range(300):
        body = bytearray(good if chance.random() < 0.7 else chance.randbytes(chance.randint(0, 200)))
        for _ in range(chance.randint(1, 5)):
            at = chance.randint(0, len(body))
            body[at : at + chance.randint(0, 3)] = chance.choice([b"\xff", b"%00", b"%ed%a0%80", b"&", b"[", b"." * 50])
        path = chance.choice(["/v", "/s", "/api/v1/app/redeem", "/api/v1/app/session", "/vouchers/revoke"])
        async with phone.http.post(path, data=bytes(body), headers={"Content-Type": chance.choice(types)}) as answer:
            assert answer.status < 500, (path, bytes(body))
    async with phone.http.post("/v", data=b"x" * 300_000) as answer:
        assert answer.status == 413
    assert await phone.balance("alice") in (0, 5)
