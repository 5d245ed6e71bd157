"""Processes of the chaos campaign without ROS: the buffer's and the bridge's own classes, and the reference server.

They talk over a Unix socket, a JSON object a line, in the place of the services; what they do is the production code's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from myrvm_cloud.bridge import Fate, Line
from myrvm_cloud.buffer import Decision, DepositBuffer
from myrvm_cloud.connection import Connection
from myrvm_cloud.deposit_rows import picked, record_of, row_of
from myrvm_cloud.settings import CloudBridgeSettings
from myrvm_core.deposit_record import DepositRecord, Stage
from myrvm_core.errors import StorageError
from myrvm_sim.reference_server import ReferenceServer, serve

from myrvm_cloud import contract

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "powercut")]

from disk import Recorder  # pyright: ignore[reportMissingImports]
from plain_line import TestKey

KEY = "chaos-key"
LEASE_S = 1.5
ANSWER_S = 5.0
STATUS_S = 0.05
LINE_BYTES = 1 << 22


def buffer_process(folder: Path, path: Path, record: Path, defect: str) -> None:
    """Own the buffer's file; `record`: where the recorder writes what becomes of the disk.

    A defect shows that the campaign sees one: "doubled" sends again what must be sent once only, "forgotten" does not
    sync.
    """
    Recorder().start(folder, record)
    buffer = DepositBuffer(folder / "deposits.db", 1000, 30.0, time.time_ns())
    if defect == "forgotten":
        buffer._connection.execute("PRAGMA synchronous=OFF")

    def answer(asked: dict[str, Any]) -> Any:
        now_ns = time.time_ns()
        match asked.pop("do"):
            case "enqueue":
                deposit = record_of(picked(asked["row"]))
                assert deposit is not None
                return buffer.enqueue(deposit, now_ns)
            case "update":
                return buffer.update(asked["id"], Stage(asked["stage"]), True, now_ns)
            case "lease":
                once = asked["once"] and defect != "doubled"
                lease_id, records = buffer.lease(asked["limit"], int(asked["duration_s"] * 1e9), now_ns, once)
                return lease_id, [row_of(record, 0) | {"attempts": record.attempts} for record in records]
            case "ack":
                return buffer.ack(asked["ids"], now_ns)
            case "nack":
                lease_id, ids, permanent, reason = asked["arguments"]
                return buffer.nack(lease_id, ids, permanent, reason, now_ns, asked["uncertain"])
            case "decide":
                return buffer.decide(Decision(asked["decision"]), asked["ids"], "the campaign", now_ns)
            case _:
                buffer.expire(now_ns)
                return vars(buffer.status(now_ns)) | {"salvages": [str(report) for report in buffer.reports]}

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                try:
                    said = {"answer": answer(json.loads(line))}
                except StorageError as error:
                    said = {"error": str(error)}
                writer.write(json.dumps(said).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def main() -> None:
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(serve_one, path, limit=LINE_BYTES)
        await server.serve_forever()

    asyncio.run(main())


class BufferLine:
    """A caller of the buffer's process; StorageError where it is not there or refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def call(self, do: str, **arguments: Any) -> Any:
        """Ask and wait for the answer."""
        try:
            if self._file is None:
                line = socket.socket(socket.AF_UNIX)
                line.settimeout(ANSWER_S)
                line.connect(str(self._path))
                self._file = line.makefile("rwb")
            self._file.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._file.flush()
            said = json.loads(self._file.readline() or b'{"error": "the buffer has ended"}')
        except (OSError, ValueError) as error:
            self._file = None
            raise StorageError(f"the buffer does not answer: {error}") from error
        if "error" in said:
            self._file = None
            raise StorageError(said["error"])
        return said["answer"]


class HostPort:
    """`bridge.Port` over the socket."""

    def __init__(self, path: Path) -> None:
        self._line = BufferLine(path)
        self._lock = asyncio.Lock()

    async def call(self, do: str, **arguments: Any) -> Any:
        """Ask the buffer, in a thread."""
        async with self._lock:
            return await asyncio.to_thread(self._line.call, do, **arguments)

    @property
    def buffer(self) -> HostPort:
        """See `Port`."""
        return self

    async def lease(self, limit: int, duration_s: float, once: bool) -> tuple[str, list[DepositRecord]]:
        """See `Deposits`."""
        lease_id, rows = await self.call("lease", limit=limit, duration_s=duration_s, once=once)
        return lease_id, [record for row in rows if (record := record_of(picked(row)))]

    async def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> int:
        """See `Deposits`."""
        return await self.call("ack", ids=list(deposit_ids))

    async def nack(self, lease_id: str, deposit_ids: Sequence[str], fate: Fate, reason: str) -> int:
        """See `Deposits`."""
        arguments = [lease_id, list(deposit_ids), fate is Fate.DEAD, reason]
        return await self.call("nack", arguments=arguments, uncertain=fate is Fate.UNCERTAIN)

    def line_changed(self, line: Line) -> None:
        """See `Port`."""

    def welcomed(self, answer: contract.HandshakeAnswer) -> None:
        """See `Port`."""

    def command(self, envelope: str) -> None:
        """See `Port`."""


class Log:
    """A node's log as the bridge uses it; only defects are of interest."""

    def __getattr__(self, level: str) -> Any:
        def write(event: str, **facts: Any) -> None:
            if level == "exception":
                logging.exception("%s %s", event, facts)

        return write


def bridge_process(url: str, path: Path, profile: str) -> None:
    """Send what is in the buffer."""
    settings = CloudBridgeSettings(
        server_url=url, profile=profile, heartbeat_interval_s=1.0, batch_size=20, lease_s=LEASE_S,
        connect_timeout_s=1.0, read_timeout_s=1.0, total_timeout_s=1.2, backoff_base_s=0.02,
        backoff_cap_s=0.2, retries=1,
    )  # fmt: skip

    async def main() -> None:
        port = HostPort(path)
        connection = Connection(settings, TestKey(KEY), "chaos", "1", "")
        bridge = connection.bridge(port, Line(), Log())

        async def watch() -> None:
            while True:
                with contextlib.suppress(StorageError):
                    status = await port.call("status")
                    bridge.buffer_changed(status["pending"], status["dead"], status["uncertain"])
                await asyncio.sleep(STATUS_S)

        await asyncio.gather(bridge.run(), watch())

    asyncio.run(main())


def server_process(database: Path, port: int, ready: Path, profile: str, record: Path, defect: str) -> None:
    """The reference server, recorded as the buffer is. "server forgotten" does not sync."""
    Recorder().start(database.parent, record)
    server = ReferenceServer(str(database), KEY, profile)
    if defect == "server forgotten":
        server.connection.execute("PRAGMA synchronous=OFF")
    with contextlib.redirect_stdout(None):
        asyncio.run(serve(server, port, ready))
