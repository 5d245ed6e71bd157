"""The line to the server against real servers on the loopback that answer as no server should."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import Any

import pytest
from aiohttp import web
from fault_proxy import FaultProxy
from myrvm_cloud.call import Call, CallError, ErrorKind, get, post
from myrvm_cloud.http_line import ANSWER_BYTES, HttpLine
from plain_line import TestKey, limits, line_to, serving

from myrvm_cloud import contract

ASKED = contract.Authorize(token="token-alice")
CUSTOMER = {"account_id": "alice", "display_name": "Alice", "balance_points": 5}
ERROR = {"status": "error", "message": "because of this\nand that"}


def ask(**options: Any) -> Call[contract.AuthorizeAnswer]:
    return post("/edge/authorize", ASKED, contract.AuthorizeAnswer, **options)


def packed(data: bytes) -> web.Response:
    return web.Response(body=data, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})


async def failure(line: HttpLine, call: Call[Any] | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        await line.send(call or ask())
    assert "\n" not in str(caught.value)
    return caught.value


def page(status: int, body: Any = ERROR, **headers: str) -> web.Response:
    if isinstance(body, (bytes, str)):
        return web.Response(body=body, status=status, headers=headers)
    return web.json_response(body, status=status, headers=headers)


BOMB = gzip.compress(b" " * 50_000_000)
K, N = ErrorKind, None
# answer, kind, undone, words that the message holds
ANSWERS: list[tuple[str, Any, ErrorKind, bool, str]] = [
    ("wrong schema", page(200, {"account_id": 7}), K.PROTOCOL, False, "account_id"),
    ("another type", page(200, []), K.PROTOCOL, False, "not of the contract"),
    ("captive portal", page(200, "<html>Log in</html>"), K.PROTOCOL, False, "not JSON"),
    ("half a JSON", page(200, json.dumps(CUSTOMER)[:20]), K.PROTOCOL, False, "not JSON"),
    ("a name twice", page(200, '{"account_id": "a", "account_id": "b"}'), K.PROTOCOL, False, "twice"),
    ("no number", page(200, '{"balance_points": NaN}'), K.PROTOCOL, False, "NaN"),
    ("a huge integer", page(200, '{"balance_points": ' + "9" * 5000 + "}"), K.PROTOCOL, False, "digits"),
    ("too deep", page(200, "[" * 50_000 + "]" * 50_000), K.PROTOCOL, False, "deeper"),
    ("no UTF-8", page(200, b'{"account_id": "\xff"}'), K.PROTOCOL, False, "UTF-8"),
    ("nothing", page(204, ""), K.PROTOCOL, False, "an empty body"),
    ("empty", page(200, ""), K.PROTOCOL, False, "an empty body"),
    ("10 MB", page(200, b" " * 10_000_000), K.PROTOCOL, False, "more than"),
    ("gzip bomb", packed(BOMB), K.PROTOCOL, False, "more than"),
    ("damaged gzip", packed(b"\x1f\x8b" + b"\x00" * 50), K.PROTOCOL, False, "damaged gzip"),
    ("half a gzip", packed(gzip.compress(json.dumps(CUSTOMER).encode())[:-9]), K.PROTOCOL, False, "half a gzip"),
    ("another coding", page(200, b"x", **{"Content-Encoding": "br"}), K.PROTOCOL, False, "not asked for"),
    ("redirect", page(302, "", Location="http://elsewhere.invalid/"), K.PROTOCOL, False, "redirects"),
    ("see other", page(303, "", Location="/elsewhere"), K.PROTOCOL, False, "redirects"),
    ("key refused", page(401), K.REFUSED, True, "401: because of this and that"),
    ("key refused by a stranger", page(401, "<html>"), K.PROTOCOL, False, "401"),
    ("forbidden", page(403), K.REFUSED, True, "403"),
    ("not found", page(404), K.REFUSED, True, "404"),
    ("already there", page(409), K.REFUSED, False, "409"),
    ("too large", page(413), K.REFUSED, True, "413"),
    ("not valid", page(422), K.REFUSED, True, "422"),
    ("too often", page(429, "<html>"), K.SERVER, True, "429"),
    ("too slow", page(408), K.SERVER, False, "408"),
    ("broken", page(500, "<html>"), K.SERVER, False, "500"),
    ("bad gateway", page(502, ""), K.SERVER, False, "502"),
    ("not now", page(503), K.SERVER, False, "503"),
]


@pytest.mark.parametrize(("name", "answer", "kind", "undone", "words"), ANSWERS, ids=[row[0] for row in ANSWERS])
async def test_an_answer_is_judged(name: str, answer: web.Response, kind: ErrorKind, undone: bool, words: str) -> None:
    asked = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await request.read()
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)

    async with serving(handle) as url, line_to(url) as line:
        error = await failure(line)
        assert (error.kind, error.undone) == (kind, undone)
        assert error.status == answer.status
        assert words in str(error)
        assert error.unauthorized == (name == "key refused")
        assert error.forbidden == (name == "forbidden")
        assert error.already_done == (name == "already there")
        assert asked == 1


async def test_a_call_as_it_goes_over_the_wire() -> None:
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, dict(request.headers), await request.json()))
        return web.json_response(CUSTOMER | {"more": "than the contract"})

    async with serving(handle) as url, line_to(url, "the-key") as line:
        assert (await line.send(ask())).account_id == "alice"
    method, path, headers, body = seen[0]
    assert (method, path, body) == ("POST", "/api/v1/edge/authorize", {"token": "token-alice"})
    wanted = {"X-RVM-API-KEY": "the-key", "X-Machine-UUID": "rvm-7", "Content-Type": "application/json"}
    assert wanted.items() <= headers.items()
    assert "Content-Encoding" not in headers
    assert "Cookie" not in headers


async def test_large_bodies_are_packed_where_the_server_takes_it_and_packed_answers_are_read() -> None:
    seen: list[tuple[str, bytes]] = []

    async def handle(request: web.Request) -> web.Response:
        # aiohttp's server has unpacked it by now
        seen.append((request.headers.get("Content-Encoding", ""), await request.read()))
        return packed(gzip.compress(json.dumps({"recorded": ["a"] * 20_000}).encode()))

    def call(size: int) -> Call[contract.CommandOutcomesAnswer]:
        outcome = contract.CommandOutcome(digest="0" * 64, status="done", reason="r" * size)
        return post("/x", contract.CommandOutcomes(outcomes=[outcome] * 10), contract.CommandOutcomesAnswer)

    async with serving(handle) as url, line_to(url, compress_from_bytes=2000) as line:
        for accepts, size in ((False, 400), (True, 10), (True, 400)):
            line.accepts_gzip = accepts
            assert len((await line.send(call(size))).recorded) == 20_000
    assert [coding for coding, _ in seen] == ["", "", "gzip"]
    assert [len(json.loads(body)["outcomes"]) for _, body in seen] == [10, 10, 10]


async def test_connections_are_kept_but_for_what_must_not_be_sent_twice() -> None:
    ports: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        return web.json_response(CUSTOMER)

    async with serving(handle) as url, line_to(url) as line:
        for _ in range(3):
            await line.send(ask())
        for _ in range(3):
            await line.send(ask(repeatable=False))
    assert len(set(ports[:3])) == 1
    assert len(set(ports)) == 4


@pytest.mark.parametrize("repeatable", [True, False])
async def test_what_was_lost_on_the_way_is_sent_again_only_where_that_does_no_harm(repeatable: bool) -> None:
    asked = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked < 3:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(CUSTOMER)

    async with serving(handle) as url, line_to(url, retries=2) as line:
        if repeatable:
            assert (await line.send(ask())).account_id == "alice"
            assert asked == 3
        else:
            error = await failure(line, ask(repeatable=False))
            assert (error.kind, error.sent, error.undone, asked) == (ErrorKind.NETWORK, True, False, 1)


async def test_nothing_was_sent_where_there_is_no_connection() -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(CUSTOMER)

    async with serving(handle) as url, FaultProxy("127.0.0.1", int(url.rsplit(":", 1)[1])) as proxy:
        await proxy.refuse()
        async with line_to(f"http://127.0.0.1:{proxy.port}", retries=1) as line:
            error = await failure(line, ask(repeatable=False))
            assert (error.kind, error.sent, error.undone) == (ErrorKind.NETWORK, False, True)
            assert proxy.accepted == 0
        async with line_to("https://does-not-exist.invalid") as line:
            assert not (await failure(line)).sent


async def test_a_silent_server_is_given_up_and_may_have_done_it() -> None:
    async def handle(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async with serving(handle) as url, line_to(url, read_s=0.2, retries=2) as line:
        began_s = time.monotonic()
        error = await failure(line, ask(repeatable=False))
        assert (error.kind, error.sent, error.undone) == (ErrorKind.NETWORK, True, False)
        with pytest.raises(CallError):
            await line.send(ask(), total_s=0.1)
        assert time.monotonic() - began_s < 30.0


async def test_a_server_that_drips_is_given_up_after_the_time_for_all() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    async with serving(handle) as url, line_to(url, total_s=0.3) as line:
        assert (await failure(line)).kind is ErrorKind.NETWORK


async def test_reading_stops_at_the_bound() -> None:
    written = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while written < 100_000_000:
                await response.write(b" " * 100_000)
                written += 100_000
        except ConnectionError:
            return response
        return response

    async with serving(handle) as url, line_to(url) as line:
        assert "more than" in str(await failure(line))
    assert written < 20 * ANSWER_BYTES


async def test_an_endpoint_that_fails_is_left_alone_and_the_others_are_not() -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return page(500) if request.path.endswith("authorize") else web.json_response({"models": []})

    async with serving(handle) as url, line_to(url, failures=3) as line:
        errors = [await failure(line) for _ in range(20)]
        assert asked.count("/api/v1/edge/authorize") < 20
        left_alone = [error for error in errors if error.status is None]
        assert left_alone
        assert all(error.kind is ErrorKind.SERVER and not error.sent and error.retry_after_s for error in left_alone)
        assert (await line.send(get("/edge/models", contract.ModelsAnswer))).models == []


async def test_a_server_that_says_no_is_well() -> None:
    async def handle(_: web.Request) -> web.Response:
        return page(404)

    async with serving(handle) as url, line_to(url, failures=1) as line:
        for _ in range(5):
            assert (await failure(line)).status == 404


async def test_a_key_that_was_replaced_is_tried_at_once() -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.headers["X-RVM-API-KEY"])
        return web.json_response(CUSTOMER) if asked[-1] == "new" else page(401)

    async with serving(handle) as url:
        async with line_to(url, "old", "new") as line:
            assert (await line.send(ask(repeatable=False))).account_id == "alice"
        assert asked == ["old", "new"]
        async with line_to(url, "old", "older", "new") as line:
            assert (await failure(line)).unauthorized
        assert asked == ["old", "new", "old", "older"], "one more attempt, not one for each key"


async def test_a_gateway_that_comes_back_is_waited_for_as_long_as_it_asks() -> None:
    asked, headers = 0, {}

    async def handle(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response(CUSTOMER) if asked > 1 else page(503, **headers)

    for wait_s, through in (("0", True), ("60", False)):
        asked, headers = 0, {"Retry-After": wait_s}
        async with serving(handle) as url, line_to(url, retries=2) as line:
            if through:
                assert (await line.send(ask())).account_id == "alice"
            else:
                assert (await failure(line)).retry_after_s == 60.0
            assert asked == (2 if through else 1)


async def test_retries_have_a_budget() -> None:
    asked = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return page(503, **{"Retry-After": "0"})

    async with serving(handle) as url, line_to(url, retries=2) as line:
        for _ in range(30):
            await failure(line)
    assert 30 + 10 <= asked <= 30 + 10 + 3 + 1


async def test_the_servers_clock_is_read_from_answers_of_the_contract_only() -> None:
    answer, headers = web.json_response, {"Date": "Fri, 01 Jan 2038 00:00:00 GMT"}

    async def handle(_: web.Request) -> web.Response:
        return answer(CUSTOMER, headers=headers)

    async def portal(_: web.Request) -> web.Response:
        return web.Response(text="<html>", headers=headers)

    async with serving(portal) as url, line_to(url) as line:
        await failure(line)
        assert not line.clock.known
    async with serving(handle) as url, line_to(url) as line:
        await line.send(ask())
        assert line.clock.offset_s(2145916800.0, time.monotonic()) == pytest.approx(0.5, abs=5.0)


async def test_the_key_is_in_no_error() -> None:
    async def handle(_: web.Request) -> web.Response:
        return page(401)

    async with serving(handle) as url, line_to(url, "hush-hush") as line:
        error = await failure(line)
        assert "hush-hush" not in f"{error!r} {error} {vars(error)} {line!r} {vars(line)!r}"


async def test_a_line_that_is_not_open_says_so() -> None:
    line = HttpLine("http://127.0.0.1:9/api/v1", TestKey("a"), "rvm-7", limits())
    assert not (await failure(line)).sent
    async with line:
        pass
    assert "not open" in str(await failure(line))
