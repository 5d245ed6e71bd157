"""Kill buffer, bridge and server with -9 while the network lies, and count: `python tests/soak/chaos.py --kills 1000`.

Customers bring items all the time; the harness keeps its own ledger of what it was promised: an item counts when the
buffer has answered that it is taken. Requests go through a proxy that delays, cuts before and after the commit,
duplicates and reorders (`http_chaos.py`). Each kill takes one of the processes, or drops what was not synced as well
(the recorder of tests/powercut): of buffer and bridge together, or of the server's database. Now and then all is left
to come to rest, and the ledgers are compared: nothing lost, nothing doubled, nothing credited that was given back,
order kept within a session.

Without `--nodes` the processes host the production classes without ROS (`chaos_host.py`), which start in milliseconds;
with it they are the real `offline_buffer` and `cloud_bridge` nodes. Profile `myrvm-server` knows no keys: what is
uncertain is listed, and at each audit decided as a technician would who looks at the server's history.
Exit status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uuid_utils
from http_chaos import HttpChaos
from myrvm_cloud.buffer import Decision
from myrvm_cloud.deposit_rows import row_of
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage
from myrvm_core.errors import StorageError
from myrvm_core.verdict import ModelInfo

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "powercut")]

from chaos_host import BufferLine, bridge_process, buffer_process, server_process
from disk import Disk, library, read_log  # pyright: ignore[reportMissingImports]

# Of the last two un-synced writes are dropped: of the machine, buffer and bridge, and of the server's room.
VICTIMS = {"buffer": 3, "bridge": 3, "server": 2, "machine power": 2, "server power": 2}
KEEP = (0.0, 0.2, 0.5, 0.8)
ENDINGS = {Stage.TAKEN: 90, Stage.RETURNED: 5, Stage.UNRESOLVED: 5}
ROUND_KILLS = 25
PAUSE_S, DOWN_S = 0.5, 0.2
UP_FIRST = 0.8  # the other kills may come while the buffer is still starting
LIMIT_S = 60.0
ALONE_AFTER = 3  # deposits that have failed so often go alone, in any order
ONCE = "myrvm-server"
DEFECTS = ("doubled", "forgotten", "server forgotten")
SHOWN_BY = {"forgotten": "machine power", "server forgotten": "server power"}  # only a power cut shows these


@dataclass
class Ledger:
    """What the harness was promised. Written by the customers only."""

    sessions: dict[str, list[str]] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    ended: dict[str, Stage] = field(default_factory=dict)

    def taken(self) -> set[str]:
        """Deposits that must be credited, once."""
        return {deposit_id for deposit_id, stage in self.ended.items() if stage is Stage.TAKEN}


class Recorded:
    """A folder whose changes are written down, so that a power cut can drop what is not synced."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder.with_name(f"{folder.name}.record")
        folder.mkdir()

    def begin(self) -> None:
        """The process that is started next records: all that is there is safe."""
        self.log.unlink(missing_ok=True)
        self._disks = Disk(self.folder, False), Disk(self.folder, True)

    def cut(self, chance: random.Random) -> None:
        """The power was gone when the process ended."""
        for entry in read_log(self.log):
            for disk in self._disks:
                disk.follow(entry)
        shutil.rmtree(self.folder)
        self._disks[chance.random() < 0.5].after_cut(self.folder, chance.choice(KEEP), chance)


class Hosted:
    """The processes without ROS."""

    def __init__(self, folder: Path, profile: str, chance: random.Random, defect: str = "") -> None:
        self._folder, self._profile, self._chance, self._defect = folder, profile, chance, defect
        self._machine, self._server = Recorded(folder / "data"), Recorded(folder / "server")
        self.data = self._machine.folder
        self._processes: dict[str, Any] = {}
        self._socket = folder / "buffer.socket"
        self.database = self._server.folder / "server.db"
        self.port = free_port()
        self.proxy_url = ""
        self._context = multiprocessing.get_context("forkserver")
        os.environ["LD_PRELOAD"] = str(library())
        os.environ["POWERCUT_SWALLOW"] = "1"
        self._context.set_forkserver_preload(["chaos_host", "disk"])

    @property
    def file(self) -> Path:
        return self.data / "deposits.db"

    def start(self, name: str) -> None:
        """Start what does not run."""
        ready = self._folder / "server.url"
        if name == "buffer":
            self._machine.begin()
            target, arguments = buffer_process, (self.data, self._socket, self._machine.log, self._defect)
        elif name == "bridge":
            target, arguments = bridge_process, (self.proxy_url, self._socket, self._profile)
        else:
            ready.unlink(missing_ok=True)
            self._server.begin()
            arguments = (self.database, self.port, ready, self._profile, self._server.log, self._defect)
            target = server_process
        self._processes[name] = self._context.Process(target=target, args=arguments, daemon=True)
        self._processes[name].start()
        if name == "server":
            wait(ready.exists, "server")

    def kill(self, name: str) -> None:
        """End it with -9, and start it again a moment later."""
        names = ("buffer", "bridge") if name == "machine power" else (name.removesuffix(" power"),)
        for one in names:
            self._processes[one].kill()
        for one in names:
            self._processes[one].join()
        if name.endswith(" power"):
            (self._server if name == "server power" else self._machine).cut(self._chance)
        time.sleep(self._chance.uniform(0.0, DOWN_S))
        for one in names:
            self.start(one)

    def caller(self) -> Callable[..., Any]:
        """Calls the buffer; StorageError where it is not there."""
        return BufferLine(self._socket).call

    def close(self) -> None:
        """End all."""
        for process in self._processes.values():
            process.kill()
            process.join()


class Customers:
    """Bring items, one after the other, and insist on an answer."""

    def __init__(self, call: Callable[..., Any], ledger: Ledger, chance: random.Random) -> None:
        self._call, self._ledger, self._chance = call, ledger, chance

    def visit(self, going_on: Callable[[], bool]) -> None:
        """One session."""
        session = Session(SessionKind.ACCOUNT, str(uuid_utils.uuid7()), self._chance.choice(["alice", "budi"]), 1)
        for _ in range(self._chance.randint(1, 8)):
            if not going_on():
                return
            self._bring(session)
            time.sleep(self._chance.uniform(0.0, 0.04))

    def _bring(self, session: Session) -> None:
        number = len(self._ledger.points) + 1
        record = DepositRecord(
            str(uuid_utils.uuid7()), "mineral", 0.875, number % 50 + 1, time.time_ns(), session, 0.02,
            ModelInfo("net", "1", "f" * 64), clock_synchronised=True,
        )  # fmt: skip
        stage = self._chance.choices(list(ENDINGS), list(ENDINGS.values()))[0]
        self._ledger.points[record.deposit_id] = record.points
        self._insist("enqueue", row=row_of(record, 0))
        self._ledger.sessions.setdefault(session.session_id, []).append(record.deposit_id)
        self._insist("update", id=record.deposit_id, stage=int(stage))
        self._ledger.ended[record.deposit_id] = stage

    def _insist(self, do: str, **arguments: Any) -> None:
        until_s = time.monotonic() + LIMIT_S
        while True:
            try:
                return self._call(do, **arguments)
            except StorageError as error:
                if time.monotonic() > until_s:
                    raise
                if "is not in the buffer" in str(error):
                    raise AssertionError(f"an answered deposit is gone: {error}") from error
                time.sleep(0.01)


class Campaign:
    """Kill after kill, and the books."""

    def __init__(self, machine: Any, proxy: HttpChaos, profile: str, chance: random.Random) -> None:
        self._machine, self._proxy, self._profile, self._chance = machine, proxy, profile, chance
        self._ledger = Ledger()
        self.kills: Counter[str] = Counter()
        self.uncertain = 0
        self.problems: list[str] = []

    def run(self, kills: int) -> None:
        """So many kills, audited in rounds."""
        while left := kills - sum(self.kills.values()):
            self._round(min(left, ROUND_KILLS))
            self._audit()
            done, items = sum(self.kills.values()), len(self._ledger.ended)
            print(f"{done} kills, {items} items, {self.uncertain} uncertain, {len(self.problems)} problems", flush=True)

    def _round(self, kills: int) -> None:
        going_on, failures = [True], []
        customers = Customers(self._machine.caller(), self._ledger, random.Random(self._chance.random()))

        def bring() -> None:
            try:
                while going_on[0]:
                    customers.visit(lambda: going_on[0])
            except BaseException as error:
                failures.append(f"a customer gave up: {type(error).__name__}: {error}")

        call = self._machine.caller()
        thread = threading.Thread(target=bring)
        thread.start()
        self._proxy.calm = False
        for _ in range(kills):
            if self._chance.random() < UP_FIRST:
                wait(lambda: self._answers(call), "buffer")
            time.sleep(self._chance.uniform(0.0, PAUSE_S))
            victim = self._chance.choices(list(VICTIMS), list(VICTIMS.values()))[0]
            self._machine.kill(victim)
            self.kills[victim] += 1
        going_on[0] = False
        thread.join()
        self.problems += failures

    def _audit(self) -> None:
        self._proxy.calm = True
        wait(lambda: not self._proxy.late, "late requests")
        call = self._machine.caller()
        for _ in range(20):
            self._rest(call)
            rows = self._rows()
            uncertain = [row for row in rows.values() if row["state"] == "uncertain"]
            credited = Counter(self._credited())
            self._compare(rows, credited)
            if not uncertain:
                return
            self.uncertain += len(uncertain)
            for decision in (Decision.CREDITED, Decision.NOT_CREDITED):
                ids = [
                    row["deposit_id"]
                    for row in uncertain
                    if (row["deposit_id"] in credited) == (decision is Decision.CREDITED)
                ]
                if ids:
                    call("decide", decision=int(decision), ids=ids)
        self.problems.append("uncertain deposits do not end on a calm line")

    @staticmethod
    def _answers(call: Callable[..., Any]) -> bool:
        with suppress(StorageError):
            return bool(call("status"))
        return False

    def _rest(self, call: Callable[..., Any]) -> None:
        def quiet() -> bool:
            with suppress(StorageError):
                status = call("status")
                self.problems += [f"salvaged: {line}" for line in status.get("salvages", ())]
                return status["pending"] + status["leased"] + status["held"] == 0
            return False

        try:
            wait(quiet, "an empty queue")
        except AssertionError as error:
            self.problems.append(str(error))

    def _rows(self) -> dict[str, dict[str, Any]]:
        with sqlite3.connect(self._machine.file) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("SELECT * FROM deposits").fetchall()
        connection.close()
        return {row["deposit_id"]: dict(row) for row in rows}

    def _credited(self) -> list[str]:
        """What the server has credited, in order, a repetition twice."""
        column, table = ("session_id", "transactions") if self._profile == ONCE else ("idempotency_key", "credits")
        connection = sqlite3.connect(self._machine.database)
        try:
            found = connection.execute(f"SELECT {column}, points FROM {table} ORDER BY rowid").fetchall()
        finally:
            connection.close()
        self.problems += [
            f"{deposit_id} was credited with {points} points"
            for deposit_id, points in found
            if self._ledger.points.get(deposit_id) != points
        ]
        return [deposit_id for deposit_id, _ in found]

    def _compare(self, rows: dict[str, dict[str, Any]], credited: Counter[str]) -> None:
        new = [f"{deposit_id} is credited {times} times" for deposit_id, times in credited.items() if times > 1]
        taken = self._ledger.taken()
        new += [f"{deposit_id} is credited and was {self._ledger.ended[deposit_id].name}" for deposit_id in credited
                if deposit_id not in taken]  # fmt: skip
        listed = {deposit_id for deposit_id, row in rows.items() if row["state"] == "uncertain"}
        new += [f"{deposit_id} is lost" for deposit_id in taken - credited.keys() - listed]
        new += [f"{deposit_id} is gone from the buffer" for deposit_id in self._ledger.ended.keys() - rows.keys()]
        if self._profile != ONCE:
            place = {deposit_id: number for number, deposit_id in enumerate(credited)}
            for session_id, deposit_ids in self._ledger.sessions.items():
                together = [one for one in deposit_ids if one in rows and rows[one]["attempts"] <= ALONE_AFTER]
                places = [place[one] for one in together if one in place]
                if places != sorted(places):
                    new.append(f"session {session_id} was credited out of order")
        self.problems += [line for line in new if line not in self.problems]

    def report(self) -> str:
        """The outcome."""
        taken = len(self._ledger.taken())
        kills = ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
        network = ", ".join(f"{count} {fate}" for fate, count in sorted(self._proxy.counts.items()))
        lines = [*self.problems[:50], f"profile {self._profile}: {sum(self.kills.values())} kills ({kills})"]
        lines.append(f"requests: {network}")
        held = f", {self.uncertain} times uncertain and decided" if self._profile == ONCE else ""
        lines.append(f"{len(self._ledger.ended)} items, {taken} to be credited{held}")
        lost = sum(line.endswith("is lost") for line in self.problems)
        doubled = sum("times" in line for line in self.problems)
        lines.append(f"{lost} lost, {doubled} doubled, {len(self.problems)} problems")
        return "\n".join(lines)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> None:
    """Until it holds."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, f"no {what} within {limit_s} s"
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills under a lying network, audited")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--profile", choices=("myrvm", ONCE), default="myrvm")
    parser.add_argument("--nodes", action="store_true", help="the real nodes; power cuts of the server only")
    parser.add_argument("--defect", choices=DEFECTS, default="", help="one that has to be seen")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)
    if arguments.defect in SHOWN_BY:
        VICTIMS[SHOWN_BY[arguments.defect]] = 9
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name, ExitStack() as stack:
        folder = Path(name)
        if arguments.nodes:
            from chaos_nodes import Nodes

            machine: Any = Nodes(folder, arguments.profile, chance)
            VICTIMS.pop("machine power")
        else:
            machine = Hosted(folder, arguments.profile, chance, arguments.defect)
        stack.callback(machine.close)
        target = f"http://127.0.0.1:{machine.port}"
        proxy = stack.enter_context(HttpChaos(target, arguments.seed, arguments.profile != ONCE))
        machine.proxy_url = proxy.url
        for process in ("server", "buffer", "bridge"):
            machine.start(process)
        campaign = Campaign(machine, proxy, arguments.profile, chance)
        campaign.run(arguments.kills)
        print(campaign.report())
        print(f"{time.monotonic() - began_s:.0f} s")
    sys.exit(bool(campaign.problems))


if __name__ == "__main__":
    main()
