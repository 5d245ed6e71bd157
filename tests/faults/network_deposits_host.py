"""Deposits over REST and TLS while the network between machine and server changes, in namespaces (`namespaces`).

The machine has the bridge's own classes and a buffer in memory. Deposits come in all the time; one JSON line a change
tells how many had come and which address the server saw them from, the last one what is lost and doubled in the
server's own table.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from namespaces import HOST, LIMIT_S, Change, Names, changes, play

sys.path.insert(0, str(Path(__file__).parents[1]))

from certificates import Authority
from memory_buffer import MemoryBuffer, deposit
from myrvm_cloud.bridge import Line, State
from myrvm_cloud.connection import Connection
from myrvm_cloud.settings import CloudBridgeSettings
from myrvm_sim.reference_server import ReferenceServer, made_runner
from plain_line import TestKey

PORT, KEY = 9443, "a-key-to-keep"
COMES_S, LOOK_S = 0.05, 0.02
SETTINGS: dict[str, Any] = {
    "connect_timeout_s": 1.0, "tls_timeout_s": 1.0, "read_timeout_s": 1.0, "total_timeout_s": 3.0, "batch_size": 5,
    "backoff_base_s": 0.1, "backoff_cap_s": 0.5, "heartbeat_interval_s": 1.0,
}  # fmt: skip


async def serve(folder: Path) -> None:
    """The server's side. `peer` in the folder holds whom it saw last; while `closing` is there it keeps no line."""
    application = ReferenceServer(str(folder / "server.db"), KEY).application()

    async def note(request: web.Request, response: web.StreamResponse) -> None:
        if request.path.endswith("/deposits"):
            (folder / "peer").write_text(request.remote or "")
        if (folder / "closing").exists():
            response.headers["Connection"] = "close"
            response.force_close()

    application.on_response_prepare.append(note)
    runner = made_runner(application)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    for host in ("0.0.0.0", "::"):
        await web.TCPSite(runner, host, PORT, ssl_context=context).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


class Machine:
    """The bridge, and customers who never rest."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.buffer, self.brought = folder, MemoryBuffer(), 0
        (folder / "peer").write_text("")
        settings = CloudBridgeSettings(
            server_url=f"https://{HOST}:{PORT}", tls_ca_file=str(folder / "authority.pem"), **SETTINGS
        )
        connection = Connection(settings, TestKey(KEY), "rvm-7", "0.1.0", "")
        self.bridge = connection.bridge(self.buffer, Line(), structlog.get_logger())

    async def customers(self) -> None:
        while True:
            self.brought += 1
            self.buffer.add(deposit(self.brought))
            self.bridge.buffer_changed(self.buffer.count("pending"), 0)
            await asyncio.sleep(COMES_S)

    async def until(self, true: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not true():
            assert time.monotonic() < end_s, f"no {what} within {LIMIT_S} s: {self.buffer.lines[-1:]}"
            await asyncio.sleep(LOOK_S)

    @property
    def peer(self) -> str:
        return (self.folder / "peer").read_text()

    @property
    def state(self) -> State:
        return self.buffer.lines[-1].state if self.buffer.lines else State.OFFLINE

    def credited(self, number: int) -> bool:
        return self.buffer.states.get(deposit(number).deposit_id) == "acked"

    async def change(self, what: str, make: Change, peer: str) -> None:
        """Change the network, and see a deposit credited that came after it, from this address."""
        before, began_s = self.brought, time.monotonic()
        await make()
        after = self.brought + 1
        await self.until(lambda: self.credited(after) and self.peer == peer, f"deposit after {what!r}")
        took_s = round(time.monotonic() - began_s, 2)
        print(json.dumps({"what": what, "came": self.brought - before, "peer": peer, "took_s": took_s}), flush=True)

    async def offline(self) -> None:
        await self.until(lambda: self.state is State.OFFLINE, "loss")


async def run(folder: Path, names: Names) -> None:
    """All changes, then the books."""
    machine = Machine(folder)
    closing = folder / "closing"

    async def end_lines() -> None:
        closing.touch()

    async def lost() -> None:
        await machine.offline()
        closing.unlink(missing_ok=True)

    tasks = [asyncio.ensure_future(machine.bridge.run()), asyncio.ensure_future(machine.customers())]
    try:
        for what, (make, peer) in changes(names, end_lines, lost).items():
            await machine.change(what, make, peer)
        tasks.pop().cancel()
        await machine.until(lambda: machine.buffer.settled, "end of the backlog")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.closing(sqlite3.connect(folder / "server.db")) as database:
        credits = Counter(key for (key,) in database.execute("SELECT idempotency_key FROM credits"))
        (points,) = database.execute("SELECT SUM(points) FROM credits").fetchone()
    missing = [deposit_id for deposit_id in machine.buffer.records if not credits[deposit_id]]
    books = {"brought": machine.brought, "lost": len(missing), "strange": len(credits.keys() - machine.buffer.records)}
    print(json.dumps(books | {"acked": machine.buffer.count("acked"), "points": points}), flush=True)


if __name__ == "__main__":
    play(__file__, serve, run, lambda folder: Authority(folder, "authority").sign("server", HOST))
