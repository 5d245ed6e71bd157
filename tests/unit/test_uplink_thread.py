"""The uplink's thread ends when it is told to, also while the name service hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from fake_graph import SilentLog
from myrvm_cloud.name_lookup import LOOKUPS, NameLookup
from myrvm_cloud.uplink import Uplink
from myrvm_cloud.uplink_thread import UplinkThread

LIMIT_S = 30.0


class HangingNames:
    """Stand-in for a resolver whose name server does not answer."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.answers = threading.Event()

    def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        self.asked.release()
        assert self.answers.wait(2 * LIMIT_S)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingNames]:
    made = HangingNames()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.answers.set()


class Connecting:
    """Stand-in for an uplink: all that it does is to connect."""

    async def run(self) -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, "server.example.org", 443)


def test_it_ends_while_the_name_service_hangs(names: HangingNames) -> None:
    log = SilentLog()
    thread = UplinkThread(lambda: cast("Uplink", Connecting()), log)
    thread.start()
    assert names.asked.acquire(timeout=LIMIT_S)
    thread.stop()
    assert [level for level, _, _ in log.lines] == ["debug"]
    assert not thread._thread.is_alive()


async def test_lookups_that_hang_keep_nothing_from_the_disk_and_are_bounded(names: HangingNames) -> None:
    loop = asyncio.get_running_loop()
    lookup = NameLookup(loop)
    hanging = [asyncio.ensure_future(lookup.getaddrinfo("server.example.org", 443)) for _ in range(LOOKUPS)]
    for _ in hanging:
        assert await loop.run_in_executor(None, lambda: names.asked.acquire(timeout=LIMIT_S))
    with pytest.raises(socket.gaierror, match="hangs"):
        await lookup.getaddrinfo("server.example.org", 443)
    hanging[0].cancel()
    names.answers.set()
    done = await asyncio.gather(*hanging, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all(isinstance(error, socket.gaierror) for error in done[1:])


async def test_a_lookup_that_has_ended_makes_room_for_the_next() -> None:
    lookup = NameLookup(asyncio.get_running_loop())
    for _ in range(2 * LOOKUPS):
        found = await lookup.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert found[0][4] == ("127.0.0.1", 80)
