"""A deposit made durable, against a bare durable INSERT on the same disk, in turns within one run.

python tests/bench/bench_enqueue.py [--rounds 400] [--rows 0]. Rows: sqlite3 alone with the buffer's pragmas and
columns, `DepositBuffer.enqueue`, and the service `buffer/enqueue` of the real node's process. Goal: p99 of
`DepositBuffer` at most 1.5 times that of the bare INSERT. `--rows` fills the buffer before it begins.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import uuid_utils
from myrvm_cloud.buffer import DepositBuffer
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind
from myrvm_core.domain_id import claim_domain
from myrvm_core.verdict import ModelInfo
from myrvm_interfaces.srv import EnqueueDeposit
from myrvm_ros.conversions import record_to_message
from rich.console import Console
from rich.table import Table

from myrvm_cloud import schema

GOAL = 1.5
WARM_UP = 20


def record() -> DepositRecord:
    session = Session(SessionKind.ACCOUNT, str(uuid.uuid4()), "alice", 1)
    return DepositRecord(
        str(uuid_utils.uuid7()), "mineral", 0.875, 5, time.time_ns(), session, 0.02, ModelInfo("net", "1", "f" * 64)
    )


def bare_insert(file: Path) -> Callable[[], None]:
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")
    columns = schema.DEPOSIT_COLUMNS[1:]
    connection.execute(f"CREATE TABLE deposits ({', '.join(columns)})")
    statement = f"INSERT INTO deposits VALUES ({', '.join('?' * len(columns))})"

    def insert() -> None:
        made = record()
        values = (made.deposit_id, 1, made.session.session_id, "alice", 1, "mineral", 0.875, 5, 0.02)
        rest = (made.accepted_at_ns, "net", "1", "f" * 64, 123_456_789, 1, 0, "held", 0, "", 0, 0, 1, "")
        connection.execute(statement, (*values, *rest, made.accepted_monotonic_ns, made.boot_id, 0, None, 0, 0))

    return insert


def service(folder: Path) -> tuple[Callable[[], None], Any]:
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from node_graph import Graph

    graph = Graph(folder)
    graph.bring_up("offline_buffer")

    def enqueue() -> None:
        request = EnqueueDeposit.Request(record=record_to_message(record()))
        assert graph.call(EnqueueDeposit, "buffer/enqueue", request).stored

    return enqueue, graph


def main() -> None:
    parser = argparse.ArgumentParser(description="A deposit made durable, against a bare durable INSERT")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--rows", type=int, default=0, help="deposits in the buffer before it begins")
    arguments = parser.parse_args()
    home = Path(os.environ.get("MYRVM_DATA") or Path(__file__).resolve().parents[2] / "var")
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as name, claim_domain() as domain:
        folder = Path(name)
        os.environ |= {"ROS_DOMAIN_ID": str(domain), "MYRVM_DATA": name, "MYRVM_ENV_FILE": os.devnull}
        buffer = DepositBuffer(folder / "deposits.db", 1000, 30.0, 0)
        buffer._connection.execute("PRAGMA synchronous=OFF")
        for _ in range(arguments.rows):
            buffer.enqueue(record(), 1)
        buffer._connection.execute("PRAGMA synchronous=FULL")
        buffer._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert buffer._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        through_service, graph = service(folder)
        ways: dict[str, Callable[[], None]] = {
            "bare INSERT, sqlite3": bare_insert(folder / "bare.db"),
            "DepositBuffer.enqueue": lambda: buffer.enqueue(record(), 1),
            "service buffer/enqueue": through_service,
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        try:
            for turn in range(WARM_UP + arguments.rounds):
                for way in random.sample(list(ways), len(ways)):  # the order matters to the disk
                    enqueue = ways[way]
                    began = time.perf_counter()
                    enqueue()
                    if turn >= WARM_UP:
                        times[way].append(1000 * (time.perf_counter() - began))
            began = time.perf_counter()
            buffer.status(0)
            counting_ms = 1000 * (time.perf_counter() - began)
        finally:
            graph.stop()
            buffer.close()
    table = Table(title=f"{arguments.rounds} rounds in turns, {arguments.rows} deposits before")
    for heading in ("", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    bare = np.percentile(times["bare INSERT, sqlite3"], [50, 99])
    for way, taken in times.items():
        figures = np.percentile(taken, [50, 99])
        table.add_row(way, *(f"{figure:.2f}" for figure in (*figures, *(figures / bare))))
    console = Console()
    console.print(table)
    ratio = np.percentile(times["DepositBuffer.enqueue"], 99) / bare[1]
    console.print(f"p99 ratio {ratio:.2f}, goal {GOAL}: {'met' if ratio <= GOAL else 'missed'}")
    console.print(f"counting all rows for buffer/status: {counting_ms:.1f} ms")


if __name__ == "__main__":
    main()
