"""With a backlog the bridge posts the next batch while the buffer still writes down what was credited of the last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import structlog
from aiohttp.test_utils import TestServer
from memory_buffer import MemoryBuffer, deposit
from myrvm_cloud.bridge import Bridge, BridgeTimes, Line
from myrvm_cloud.http_line import HttpLimits, HttpLine
from myrvm_cloud.rest_client import MyrvmClient
from myrvm_core.backoff import Backoff
from myrvm_core.errors import StorageError
from myrvm_sim.reference_server import DEMO_KEY, ReferenceServer
from plain_line import TestKey

BACKOFF = Backoff(0.01, 0.05)
DEPOSITS, BATCH = 12, 4


class SlowBuffer(MemoryBuffer):
    """The first answer to an `ack` comes when it may, or not at all; their order is kept."""

    def hold(self, fails: bool) -> None:
        self.may_answer, self.fails, self.acks = asyncio.Event(), fails, 0

    async def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> int:
        self.acks += 1
        if self.acks == 1:
            await self.may_answer.wait()
            if self.fails:
                raise StorageError("the disk is gone for a moment")
        return await super().ack(lease_id, deposit_ids)


@pytest.fixture
async def server() -> AsyncIterator[tuple[ReferenceServer, str]]:
    server = ReferenceServer(":memory:")
    async with TestServer(server.application()) as running:
        yield server, str(running.make_url("")).rstrip("/")


def credited(server: ReferenceServer) -> list[str]:
    return [row[0] for row in server.connection.execute("SELECT idempotency_key FROM credits ORDER BY rowid")]


async def until(condition: Any) -> None:
    end_s = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("fails", [False, True])
async def test_the_next_batch_does_not_wait_for_the_ack_of_the_last(
    server: tuple[ReferenceServer, str], fails: bool
) -> None:
    buffer = SlowBuffer()
    buffer.hold(fails)
    ids = [deposit(number).deposit_id for number in range(DEPOSITS)]
    buffer.add(*(deposit(number) for number in range(DEPOSITS)))
    client = MyrvmClient(server[1], "rvm-7", "1")
    http = HttpLine(client.base_url, TestKey(DEMO_KEY), "rvm-7", HttpLimits(backoff=BACKOFF))
    times = BridgeTimes(60.0, 1.0, 60.0, BACKOFF)
    bridge = Bridge(client, http, buffer, times, BATCH, Line(), structlog.get_logger())
    task = asyncio.ensure_future(bridge.run())
    await until(lambda: len(credited(server[0])) == 2 * BATCH)
    assert buffer.count("acked") == 0, "nothing is written down yet"
    buffer.may_answer.set()
    if fails:
        await until(lambda: buffer.count("acked") == BATCH)
        buffer.expire()
        bridge.buffer_changed(buffer.count("pending"), 0)
    await until(lambda: buffer.settled)
    await until(lambda: buffer.lines[-1].credited == DEPOSITS)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert buffer.count("acked") == DEPOSITS
    assert credited(server[0]) == ids, "each once, in order"
