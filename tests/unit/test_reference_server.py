"""The reference server's own promises: one credit for a key, rows judged each for itself, faults on request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from myrvm_sim.reference_server import DEMO_KEY, ReferenceServer
from server_process import ServerProcess

HEADERS = {"X-RVM-API-KEY": DEMO_KEY, "X-Machine-UUID": "rvm-7"}


def row(key: str, **changes: Any) -> dict[str, Any]:
    return {
        "idempotency_key": key,
        "session_id": "s",
        "kind": "account",
        "account_id": "alice",
        "class_name": "mineral",
        "score": 0.9,
        "points": 5,
        "weight_kg": None,
        "accepted_at": 1.5,
        "model": {"name": "net", "version": "1", "sha256": ""},
    } | changes


@pytest_asyncio.fixture
async def http() -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(ReferenceServer(":memory:").application())) as client:
        yield client


async def post(http: TestClient[Any, Any], path: str, body: Any, headers: dict[str, str] = HEADERS) -> Any:
    async with http.post(f"/api/v1/edge/{path}", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def credit(http: TestClient[Any, Any], *rows: dict[str, Any]) -> list[str]:
    status, answer = await post(http, "deposits", {"deposits": list(rows)})
    assert status == 200
    return [result["status"] for result in answer["results"]]


async def ledger(http: TestClient[Any, Any]) -> Any:
    async with http.get("/api/v1/ledger") as answer:
        return await answer.json()


async def test_a_key_is_credited_once(http: TestClient[Any, Any]) -> None:
    assert await credit(http, row("a"), row("b"), row("a")) == ["credited", "credited", "duplicate"]
    assert await credit(http, row("a"), row("b", points=99)) == ["duplicate", "refused"]
    assert (await ledger(http))["balances"] == {"alice": 10, "budi": 0, "donations": 0}


async def test_rows_are_judged_each_for_itself(http: TestClient[Any, Any]) -> None:
    rows = (row("a"), row("b", account_id="nobody"), row("c", points=-1), row("d", kind="donation", account_id=""))
    assert await credit(http, *rows) == ["credited", "refused", "refused", "credited"]
    assert [entry["idempotency_key"] for entry in (await ledger(http))["credits"]] == ["a", "d"]


async def test_the_key_is_checked_and_errors_are_of_the_contract(http: TestClient[Any, Any]) -> None:
    for headers in ({}, {"X-RVM-API-KEY": "wrong"}):
        status, answer = await post(http, "handshake", {}, headers)
        assert (status, answer["status"]) == (401, "error")
    assert (await post(http, "handshake", {}))[0] == 422
    assert (await post(http, "authorize", {"token": "nobody"}))[0] == 404
    assert (await post(http, "nowhere", {}))[0] == 404
    assert (await post(http, "deposits", {"deposits": []}))[0] == 422
    status, answer = await post(http, "authorize", {"token": "token-budi"})
    assert (status, answer) == (200, {"account_id": "budi", "display_name": "Budi", "balance_points": 0})


async def test_a_cut_after_the_commit_has_credited_and_one_before_has_not(http: TestClient[Any, Any]) -> None:
    for fault, credited in (("cut_before_commit", 0), ("cut_after_commit", 1)):
        async with http.post("/faults", json={fault: 1, "endpoint": "deposits"}) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await credit(http, row("a"))
        assert len((await ledger(http))["credits"]) == credited
    assert await credit(http, row("a")) == ["duplicate"]
    async with http.post("/faults", json={"nonsense": 1}) as answer:
        assert answer.status == 422


async def test_a_command_is_sent_until_it_is_confirmed(http: TestClient[Any, Any]) -> None:
    async with http.post("/commands", json={"command_id": "1", "kind": "SHOW_TEXT", "text": "hello"}) as answer:
        assert answer.status == 200
    beat: dict[str, Any] = {"pending": 0, "dead": 0}
    for received, count in (([], 1), ([], 1), (["1"], 0)):
        _, answer = await post(http, "heartbeat", beat | {"received_commands": received})
        assert len(answer["commands"]) == count


def test_the_process_keeps_its_ledger_and_ends_at_sigterm(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path)
    try:
        first = process.start()
        assert process.stop() == 0
        assert process.start() == first
        assert process.ledger() == {"credits": [], "balances": {"alice": 0, "budi": 0, "donations": 0}}
        assert process.stop() == 0
    finally:
        process.close()
