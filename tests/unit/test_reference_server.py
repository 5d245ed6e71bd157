"""The reference server's own promises: one credit for a key, rows judged each for itself, faults on request."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from myrvm_sim.reference_server import DEMO_KEY, ReferenceServer, made_runner
from server_process import ServerProcess

from myrvm_sim import server_faults

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


async def test_a_command_is_sent_until_its_outcome_is_told_by_the_machine_that_asks(http: TestClient[Any, Any]) -> None:
    async with http.post("/commands", json={"envelope": "a.b.c"}) as answer:
        assert answer.status == 200
    beat = {"pending": 0, "dead": 0}
    for _ in range(2):
        assert (await post(http, "heartbeat", beat))[1]["commands"] == ["a.b.c"]
    outcome = {"digest": hashlib.sha256(b"a.b.c").hexdigest(), "status": "refused"}
    await post(http, "command-outcomes", {"outcomes": [outcome]})
    assert (await post(http, "heartbeat", beat))[1]["commands"] == []


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


OUTCOME = {"digest": "0" * 64, "command_id": "1", "kind": "reboot", "status": "done", "audit": {"sequence": 7}}
MEASURED = {"measured_at": 1.5, "source": "health", "name": "temperature_c", "value": 45.0}


async def get(http: TestClient[Any, Any], path: str) -> Any:
    async with http.get(path, headers=HEADERS) as answer:
        return answer.status, await answer.read()


async def test_what_comes_twice_is_recorded_once(http: TestClient[Any, Any]) -> None:
    batch = {"batch_id": "b", "measurements": [MEASURED]}
    assert await post(http, "telemetry", batch) == (200, {"status": "stored"})
    assert await post(http, "telemetry", batch) == (200, {"status": "duplicate"})
    for _ in range(2):
        assert await post(http, "command-outcomes", {"outcomes": [OUTCOME]}) == (200, {"recorded": ["0" * 64]})
    async with http.get("/reported") as answer:
        told = await answer.json()
    assert told["telemetry"] == [batch]
    assert [outcome["audit"] for outcome in told["outcomes"]] == [{"sequence": 7}], "fields that it does not know stay"


async def test_models_and_configuration(http: TestClient[Any, Any]) -> None:
    assert await get(http, "/api/v1/edge/configuration") == (204, b"")
    assert await get(http, "/api/v1/edge/models") == (200, b'{"models":[]}')
    wanted = {"name": "net", "version": "2", "sha256": "a" * 64, "url": "", "size_bytes": 1}
    for path, body in (("models", {"models": [wanted]}), ("configuration", {"document": "signed"})):
        async with http.post(f"/{path}", json=body) as answer:
            assert answer.status == 200
        status, said = await get(http, f"/api/v1/edge/{path}")
        assert (status, json.loads(said)) == (200, body)


PROFILES = ("myrvm", "myrvm-server")
PATHS = {
    "myrvm": ["handshake", "heartbeat", "deposits", "authorize", "telemetry", "command-outcomes"],
    "myrvm-server": ["handshake", "heartbeat", "sync-offline", "deposit"],
}
ABUSE: list[tuple[str, bytes, dict[str, str]]] = [
    ("nothing", b"", {}),
    ("no JSON", b"{", {}),
    ("NaN", b'{"pending": NaN, "dead": 0}', {}),
    ("infinity", b'{"pending": 1e999, "dead": 0}', {}),
    ("a huge integer", b'{"pending": ' + b"9" * 100_000 + b"}", {}),
    ("an integer beyond SQLite", b'{"pending": 9223372036854775808, "dead": -1}', {}),
    ("a name twice", b'{"token": "a", "token": "b"}', {}),
    ("no UTF-8", b'{"token": "\xff"}', {}),
    ("half a surrogate", b'{"token": "\\ud800", "hardware_id": "\\ud800", "software_version": ""}', {}),
    ("deep", b"[" * 100_000, {}),
    ("deep objects", b'{"a":' * 40_000 + b"1" + b"}" * 40_000, {}),
    ("another type", b"[]", {}),
    ("null", b"null", {}),
    ("large", b" " * 300_000, {}),
    ("a bomb", gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"}),
    ("half a gzip", gzip.compress(b"{}" * 1000)[:20], {"Content-Encoding": "gzip"}),
    ("no gzip", b"\x1f\x8bnonsense", {"Content-Encoding": "gzip"}),
    ("an unknown coding", b"{}", {"Content-Encoding": "zstd"}),
    ("a machine of no name", b"{}", {"X-Machine-UUID": "two words"}),
    ("a machine of bytes", b"{}", {"X-Machine-UUID": "\udcff\udcfe"}),
    ("a key of bytes", b"{}", {"X-RVM-API-KEY": "\udcff"}),
    ("half a form", b"--x\r\nContent-Disposition: form-data", {"Content-Type": "multipart/form-data; boundary=x"}),
    ("a form without a boundary", b"--x", {"Content-Type": "multipart/form-data"}),
]


@pytest.fixture(params=PROFILES)
async def bare(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, int]]:
    """A server as `serve` runs it, which unpacks by itself; its profile and port."""
    runner = made_runner(ReferenceServer(":memory:", profile=request.param).application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield request.param, runner.addresses[0][1]
    await runner.cleanup()


async def raw(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer to what no client would send."""
    sent = HEADERS | {"Content-Type": "application/json"} | headers | {"Content-Length": str(len(body)), "Host": "x"}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode("utf-8", "surrogateescape") + b"Connection: close\r\n\r\n" + body)
        return int((await asyncio.wait_for(reader.readuntil(b"\r\n"), 30)).split()[1])
    finally:
        writer.close()


@pytest.mark.parametrize(("name", "body", "headers"), ABUSE, ids=[row[0] for row in ABUSE])
async def test_whatever_is_sent_the_answer_is_no_500(
    bare: tuple[str, int], name: str, body: bytes, headers: dict[str, str]
) -> None:
    profile, port = bare
    for path in PATHS[profile]:
        assert 400 <= await raw(port, "POST", f"/api/v1/edge/{path}", body, headers) < 500, path
    assert await raw(port, "GET", "/api/v1/ledger", b"", {}) == 200, "it lives"


async def test_a_packed_body_is_read(bare: tuple[str, int]) -> None:
    profile, port = bare
    body = {"transactions": [{"timestamp": "t", "items": [{"type": "a", "points": 1}]}]}
    path = "deposits" if profile == "myrvm" else "sync-offline"
    packed = gzip.compress(json.dumps(body if profile == "myrvm-server" else {"deposits": [row("a")]}).encode())
    assert await raw(port, "POST", f"/api/v1/edge/{path}", packed, {"Content-Encoding": "gzip"}) == 200


async def test_a_bomb_takes_no_memory(bare: tuple[str, int]) -> None:
    profile, port = bare
    bomb = gzip.compress(b" " * 200_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        path = f"/api/v1/edge/{PATHS[profile][0]}"
        assert await raw(port, "POST", path, bomb, {"Content-Encoding": "gzip"}) == 413
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 50_000


async def chunked(port: int, path: str, chunk: bytes, pause_s: float) -> int:
    """The status of the answer to a body that does not end."""
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def pour() -> None:
        while True:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(pause_s)

    writer.write(head.encode() + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    pouring = asyncio.ensure_future(pour())
    try:
        return int((await asyncio.wait_for(reader.readuntil(b"\r\n"), 30)).split()[1])
    finally:
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
        writer.close()


async def test_a_body_without_an_end_is_cut_off(bare: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    profile, port = bare
    path = f"/api/v1/edge/{PATHS[profile][0]}"
    assert await chunked(port, path, b" " * 10_000, 0.0) == 413
    monkeypatch.setattr(server_faults, "BODY_S", 0.2)
    assert await chunked(port, path, b" ", 0.02) == 408
