"""Logs for the operator: the newest within their bounds, no secret in them, kept by the server once."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from fake_graph import MACHINE, NOW_S
from hypothesis import given
from hypothesis import strategies as st
from myrvm_cloud.call import CallError, NotOfferedError
from myrvm_cloud.contract import UPLOAD_BYTES
from myrvm_cloud.http_line import HttpLine
from myrvm_cloud.log_collection import MASK, Collection, collect, masked
from myrvm_cloud.myrvm_server_client import MyrvmServerClient
from myrvm_cloud.rest_client import MyrvmClient
from myrvm_sim.reference_server import DEMO_KEY, ReferenceServer
from plain_line import line_to

SECRET = "key-of-the-machine"
DOCUMENT = "eyJhbGciOiJFZERTQSJ9.eyJhIjoxfQ.c2lnbmF0dXJl"


def line(at_s: float, node: str, **fields: Any) -> str:
    time = datetime.fromtimestamp(at_s, timezone.utc).isoformat().replace("+00:00", "Z")
    return json.dumps({"node": node, "message": "m", "level": "info", "time": time, **fields}) + "\n"


def write(folder: Path, name: str, text: str, at_s: float = NOW_S) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    os.utime(folder / name, (at_s, at_s))


def events(collection: Collection) -> list[dict[str, Any]]:
    return [json.loads(text) for text in gzip.decompress(collection.packed).splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs = tmp_path / "logs"
    write(logs, "camera.jsonl", "".join(line(NOW_S - 50 + 10 * number, "camera", n=number) for number in range(5)))
    write(logs, "camera.jsonl.1", line(NOW_S - 100, "camera", n=-1) + line(NOW_S - 90, "camera", n=-2), NOW_S - 90)
    write(logs, "camera.jsonl.2", line(NOW_S - 9000, "camera", n=-9), NOW_S - 9000)
    write(logs, "deposit.jsonl", line(NOW_S - 45, "deposit", n=100) + '{"time": "2027-01-15T08:00:00", "torn')
    write(logs, "deposit.out", "not a log of ours")
    return logs


def test_all_nodes_in_order_of_time_without_what_is_older(folder: Path) -> None:
    found = collect(folder, NOW_S - 3600)
    assert [event["n"] for event in events(found)] == [-1, -2, 0, 100, 1, 2, 3, 4]
    assert found.files == ("camera.jsonl", "camera.jsonl.1", "deposit.jsonl")
    assert (found.lines, found.whole) == (8, True)
    assert [event["n"] for event in events(collect(folder, NOW_S - 3600, "deposit"))] == [100]
    assert [event["n"] for event in events(collect(folder, NOW_S - 25))] == [3, 4]
    assert collect(folder, NOW_S - 3600, "nobody").lines == collect(folder.parent / "none", 0.0).lines == 0


def test_bounds_leave_out_the_oldest(folder: Path) -> None:
    one = len(line(NOW_S, "camera", n=1))
    found = collect(folder, NOW_S - 3600, lines_bytes=3 * one + 10)
    assert ([event["n"] for event in events(found)], found.whole) == ([2, 3, 4], False)
    numbers = random.Random(7)
    noise = "".join(line(NOW_S + number, "camera", n=number, x=numbers.randbytes(300).hex()) for number in range(400))
    write(folder, "camera.jsonl", noise)
    found = collect(folder, NOW_S - 3600, packed_bytes=30_000)
    assert len(found.packed) <= 30_000
    assert (events(found)[-1]["n"], found.whole) == (399, False)
    assert [event["n"] for event in events(found)] == list(range(400 - found.lines, 400))


def test_no_secret_leaves_the_machine(folder: Path) -> None:
    hidden = "s3cr3t-value"
    fields = {
        "api_key": hidden, "nested": {"Authorization": hidden, "list": [{"user_token": hidden}]},
        "url": f"wss://host/ws?token={hidden}&x=1", "error": f"refused key {SECRET} of the machine",
        "text": f'{{"password": "{hidden}"}}', "link": f"https://host/v#{DOCUMENT}", SECRET: 1, "kept": "token",
    }  # fmt: skip
    write(folder, "cloud_bridge.jsonl", line(NOW_S, "cloud_bridge", **fields))
    packed = gzip.decompress(collect(folder, NOW_S - 3600, "cloud_bridge", ["", "abc", SECRET]).packed).decode()
    for secret in (hidden, SECRET, DOCUMENT):
        assert secret not in packed
    (event,) = map(json.loads, packed.splitlines())
    assert (event["node"], event["level"], event["kept"]) == ("cloud_bridge", "info", "token")
    assert event["url"] == f"wss://host/ws?token={MASK}&x=1"
    assert event["link"] == f"https://host/v#{MASK}"


JSON = st.recursive(
    st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(JSON)
def test_masking_keeps_all_else(value: Any) -> None:
    told = json.dumps(value, ensure_ascii=False).lower()
    words = ("key", "token", "password", "secret", "authorization", "eyj")
    if not any(word in told for word in words):
        assert masked(value, ["nowhere-in-it"]) == value


@pytest_asyncio.fixture
async def desk() -> Any:
    async with TestServer(ReferenceServer(":memory:").application()) as server:
        url = str(server.make_url("")).rstrip("/")
        client = MyrvmClient(url, MACHINE, "0.1.0")
        async with line_to(url, DEMO_KEY) as line:
            yield server, client, line


async def listed(server: TestServer) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(server.make_url("/uploads")) as answer:
        return await answer.json()


async def test_the_server_keeps_them_once(desk: tuple[TestServer, MyrvmClient, HttpLine], folder: Path) -> None:
    server, client, line = desk
    line.accepts_gzip = True  # what is packed already goes as it is
    packed = collect(folder, NOW_S - 3600).packed
    for _ in range(2):
        answer = await line.send(client.logs("17", packed))
        assert (answer.upload_id, answer.sha256) == ("17", hashlib.sha256(packed).hexdigest())
    (kept,) = await listed(server)
    assert (kept["machine"], kept["kind"], kept["upload_id"], kept["bytes"]) == (MACHINE, "logs", "17", len(packed))
    with pytest.raises(CallError, match="was used for others: logs"):
        await line.send(client.logs("17", gzip.compress(b"other")))
    with pytest.raises(CallError, match=r"422.*application/gzip"):
        await line.send(client.logs("18", b"not packed"))
    large = gzip.compress(b"", mtime=0) + bytes(UPLOAD_BYTES - 20)
    await line.send(client.logs("19", large))
    with pytest.raises(ValueError, match="allowed: 4000000"):
        client.logs("20", bytes(UPLOAD_BYTES + 1))
    with pytest.raises(NotOfferedError, match="myrvm-server offers no call for logs"):
        MyrvmServerClient("https://host", MACHINE, "0.1.0").logs("17", packed)
    other = client.logs("21", packed)
    with pytest.raises(ValueError, match="sent was"):
        other.read({"upload_id": "21", "sha256": "0" * 64})
