"""A proxy that the environment names is used for the world, and never for this machine itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from myrvm_cloud.call import CallError, get
from plain_line import line_to, serving

from myrvm_cloud import contract

ASK = get("/edge/models", contract.ModelsAnswer)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def proxy(heard: list[str]) -> AsyncIterator[str]:
    """One that refuses everything and remembers what it was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_the_world_is_reached_through_the_proxy_and_the_key_stays_within_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []
    async with proxy(heard) as url, line_to("https://server.invalid") as line:
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(CallError) as caught:
            await line.send(ASK)
        assert not caught.value.sent
        assert heard[0].startswith("CONNECT server.invalid:443 ")
        assert "a-key-to-keep" not in heard[0]
        monkeypatch.setenv("NO_PROXY", "server.invalid")
        with pytest.raises(CallError, match="not reached"):
            await line.send(ASK)
        assert len(heard) == 1


async def test_this_machine_is_spoken_to_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response({"models": []})

    heard: list[str] = []
    async with proxy(heard) as url, serving(handle) as server, line_to(server) as line:
        monkeypatch.setenv("HTTP_PROXY", url)
        assert (await line.send(ASK)).models == []
    assert heard == []
