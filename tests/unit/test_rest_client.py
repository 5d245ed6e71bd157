"""Requests as the contract wants them, and every answer judged, without a network."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_cloud.contract import DepositsAnswer
from myrvm_cloud.rest_client import CallError, ErrorKind, MyrvmClient, batches, outcome, retry_after_s
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind

ERROR = json.dumps({"status": "error", "message": "no"}).encode()


def client(url: str = "https://host/") -> MyrvmClient:
    return MyrvmClient(url, "rvm-7", "0.1.0")


def record(number: int, attempts: int = 1) -> DepositRecord:
    session = Session(SessionKind.ACCOUNT, "s", "alice")
    return DepositRecord(str(uuid.UUID(int=number)), "mineral", 0.5, 5, 1_500_000_000, session, None, attempts=attempts)


def test_a_deposit_as_the_contract_writes_it() -> None:
    made = client()
    assert made.base_url == "https://host/api/v1"
    call = made.deposits([record(1)])
    assert (call.method, call.path) == ("POST", "/edge/deposits")
    assert json.loads(call.body) == {
        "deposits": [
            {
                "idempotency_key": str(uuid.UUID(int=1)),
                "session_id": "s",
                "kind": "account",
                "account_id": "alice",
                "class_name": "mineral",
                "score": 0.5,
                "points": 5,
                "weight_kg": None,
                "accepted_at": 1.5,
                "accepted_at_trusted": False,
                "model": {"name": "", "version": "", "sha256": ""},
            }
        ]
    }


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>guest network</html>", ErrorKind.PROTOCOL),
        (200, b'{"results": [', ErrorKind.PROTOCOL),
        (200, b'{"results": [{"idempotency_key": "a", "status": "perhaps"}]}', ErrorKind.PROTOCOL),
        (200, b"[]", ErrorKind.PROTOCOL),
        (302, b"", ErrorKind.PROTOCOL),
        (401, ERROR, ErrorKind.REFUSED),
        (401, b"<html>", ErrorKind.PROTOCOL),
        (404, b"<html>", ErrorKind.PROTOCOL),
        (413, ERROR, ErrorKind.REFUSED),
        (413, b"<html>nginx</html>", ErrorKind.REFUSED),
        (422, ERROR, ErrorKind.REFUSED),
        (408, b"", ErrorKind.SERVER),
        (429, b"", ErrorKind.SERVER),
        (500, b"<html>", ErrorKind.SERVER),
        (503, ERROR, ErrorKind.SERVER),
    ],
)
def test_every_other_answer_has_a_kind(status: int, body: bytes, kind: ErrorKind) -> None:
    with pytest.raises(CallError) as caught:
        client().deposits([record(1)]).judge(status, {"Retry-After": "7"}, body)
    assert caught.value.kind is kind
    assert caught.value.unauthorized == (status == 401 and kind is ErrorKind.REFUSED)
    assert caught.value.body_refused == (status in (400, 413, 422))
    assert caught.value.retry_after_s == (None if status < 400 else 7.0)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_answer_is_taken_for_a_credit_by_chance(body: bytes, status: int) -> None:
    with pytest.raises(CallError):
        client().deposits([record(1)]).judge(status, {}, body)


STATUS = st.sampled_from(["credited", "duplicate", "refused"])


@given(st.lists(st.tuples(st.integers(0, 9), STATUS), max_size=15), st.sets(st.integers(0, 9)))
def test_each_deposit_of_a_batch_has_exactly_one_outcome(said: list[tuple[int, str]], sent: set[int]) -> None:
    results = [{"idempotency_key": str(uuid.UUID(int=number)), "status": status} for number, status in said]
    sorted_out = outcome([record(number) for number in sent], DepositsAnswer.model_validate({"results": results}))
    assert sorted([*sorted_out.credited, *sorted_out.refused, *sorted_out.again]) == sorted(
        str(uuid.UUID(int=number)) for number in sent
    )
    for number in sent:
        words = {status for other, status in said if other == number}
        assert (str(uuid.UUID(int=number)) in sorted_out.credited) == (bool(words) and "refused" not in words)
        assert (str(uuid.UUID(int=number)) in sorted_out.refused) == (words == {"refused"})


@given(st.lists(st.integers(0, 8)))
def test_what_failed_often_goes_alone(attempts: list[int]) -> None:
    records = [record(number, count) for number, count in enumerate(attempts)]
    made = batches(records, random.Random(0))
    assert sorted(row.deposit_id for batch in made for row in batch) == [row.deposit_id for row in records]
    assert all(len(batch) == 1 for batch in made if max(row.attempts for row in batch) > 3)
    assert sum(len(batch) > 0 and batch[0].attempts <= 3 for batch in made) <= 1


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"Retry-After": "999999"}, 300.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "Date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "Date": "Wed, 21 Oct 2026 09:00:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 09:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 300.0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 300.0),
        ({"Retry-After": "Wed, 99 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry-After": "soon"}, None),
    ],
)
def test_retry_after(headers: dict[str, Any], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s
