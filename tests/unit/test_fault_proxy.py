from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fault_proxy import FaultProxy

LIMIT_S = 20.0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as made:
        yield made
    server.close()


async def connect(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def test_bytes_pass_in_order_and_an_end_is_passed_on(proxy: FaultProxy) -> None:
    reader, writer = await connect(proxy)
    sent = bytes(range(256)) * 20_000
    writer.write(sent)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(-1), LIMIT_S) == sent
    assert proxy.sent_bytes == proxy.received_bytes == len(sent)
    writer.close()


async def test_delay_is_added_each_way_and_not_once_a_chunk(proxy: FaultProxy) -> None:
    proxy.delay_s = 0.1
    reader, writer = await connect(proxy)
    began = time.monotonic()
    for _ in range(20):
        writer.write(b"x" * 100)
        await asyncio.sleep(0.001)
    await asyncio.wait_for(reader.readexactly(2000), LIMIT_S)
    assert time.monotonic() - began >= 0.2
    writer.close()


async def test_a_frozen_line_stays_open_and_delivers_when_it_thaws(proxy: FaultProxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"a")
    await asyncio.wait_for(reader.readexactly(1), LIMIT_S)
    proxy.freeze()
    writer.write(b"b")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    assert proxy.connections == 1
    proxy.thaw()
    assert await asyncio.wait_for(reader.readexactly(1), LIMIT_S) == b"b"
    writer.close()


async def test_answers_alone_can_be_held_back(proxy: FaultProxy) -> None:
    reader, writer = await connect(proxy)
    proxy.freeze(upstream=False)
    writer.write(b"abc")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    assert (proxy.sent_bytes, proxy.received_bytes) == (3, 0)
    writer.close()


async def test_a_cut_is_a_reset_and_the_port_stays_open(proxy: FaultProxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"a")
    await asyncio.wait_for(reader.readexactly(1), LIMIT_S)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), LIMIT_S)
    writer.close()
    reader, writer = await connect(proxy)
    writer.write(b"b")
    assert await asyncio.wait_for(reader.readexactly(1), LIMIT_S) == b"b"
    writer.close()


async def test_a_refused_port_opens_again_on_the_same_number(proxy: FaultProxy) -> None:
    port = proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    await proxy.listen()
    assert proxy.port == port
    reader, writer = await connect(proxy)
    writer.write(b"a")
    assert await asyncio.wait_for(reader.readexactly(1), LIMIT_S) == b"a"
    writer.close()
    assert proxy.accepted == 1


async def test_without_a_server_behind_it_the_client_is_reset() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with FaultProxy("127.0.0.1", port) as proxy:
        reader, _ = await connect(proxy)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), LIMIT_S)
