"""Power cuts with real processes: `python tests/powercut/real.py --cuts 100` (`make powercut`).

`rvm up` runs the whole graph under the recorder, on the simulated cabinet's GPIO chip. Cabinet, reference server and
the customer who watches the screen are outside and outlast every cut. At a named point, or at any moment, `rvm up` and
all its processes are killed (-9); the data folder is rebuilt from what they had synced (`disk.py`); `rvm up` starts
on it, the item's end is waited for and ledger, buffer, bin and screen are audited. Exit status 1 where they differ.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import books
from books import Books
from campaign import LEFT_OUT
from disk import Disk, preload, read_log
from lifecycle_msgs.msg import State
from myrvm_core.domain_id import claim_domain
from myrvm_core.errors import RvmError
from myrvm_interfaces.msg import DepositState, SystemStatus
from myrvm_sim.cabinet_client import CabinetClient
from myrvm_sim.customer import READY_STATES, Customer
from myrvm_sim.items import Kind
from myrvm_sim.server_client import ServerClient

from myrvm_sim import cabinet_client, server_client
from myrvm_system import check

KEEP = (0.0, 0.0, 0.2, 0.5, 0.8, 1.0)
LATE_S = 0.1  # half of the cuts at a named point come up to so much later
ANY_S = 8.0  # cuts at any moment: so long after the item was put in, or after the start
LIMIT_S = 120.0
STATES = {
    "ITEM_DETECTED": Kind.MINERAL, "CLASSIFYING": Kind.MINERAL, "RECORDING": Kind.MINERAL, "ACCEPTING": Kind.MINERAL,
    "SETTLING": Kind.MINERAL, "SHOWING": Kind.MINERAL, "RETURNING": Kind.NOT_EMPTY,
}  # fmt: skip
POINTS = (*STATES, "gate moves", "told", "credited", "any moment", "start", "shut down")
PARAMETERS = "cloud_bridge: {ros__parameters: {lease_s: 5.0}}\n"  # of a minute: rows that a dead sender holds come soon
RVM = "from myrvm_system.cli import main; main()"


@dataclass(frozen=True)
class Outside:
    """What a power cut of the computer does not touch."""

    folder: Path
    cabinet: CabinetClient
    server: ServerClient
    customer: Customer
    variables: dict[str, str]


@contextmanager
def outside(folder: Path) -> Iterator[Outside]:
    """Cabinet, server and customer."""
    with ExitStack() as stack:
        domain = stack.enter_context(claim_domain())
        hardware = stack.enter_context(cabinet_client.running(folder / "cabinet", "--seed", "1"))
        server = stack.enter_context(server_client.running(folder / "server.db"))
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        variables = {
            "MYRVM_DATA": str(folder / "data"), "MYRVM_ENV_FILE": os.devnull, "MYRVM_HARDWARE": "desk", **hardware,
            "RVM_SERVER_URL": server.url, "RVM_API_KEY": server.api_key, "HARDWARE_ID": "powercut",
        }  # fmt: skip
        cabinet = stack.enter_context(CabinetClient(folder / "cabinet"))
        yield Outside(folder, cabinet, server, stack.enter_context(Customer()), variables)


class Computer:
    """`rvm up` under the recorder: switched on, and off by pulling the plug."""

    def __init__(self, around: Outside, ignored: Callable[[str], bool]) -> None:
        self._around, self._ignored = around, ignored
        self.data = around.folder / "data"
        self._logs = around.folder / "logs"  # outside the data folder: nobody's deposit
        self._record = around.folder / "record"
        self._disks: tuple[Disk, Disk] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._logs.mkdir()
        self.data.mkdir()
        quick = around.folder / "quick.yaml"
        quick.write_text(PARAMETERS)
        files = [part for file in (*check.default_files("desk"), quick) for part in ("-p", str(file))]
        self._command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", RVM, "up", *files]

    def switch_on(self) -> None:
        """Start."""
        self._disks = Disk(self.data, False, self._ignored), Disk(self.data, True, self._ignored)
        (self.data / "logs").symlink_to(self._logs)
        environment = {**os.environ, **self._around.variables}
        environment |= preload(self.data, self._record, environment)
        with (self._logs / "rvm.out").open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def end(self) -> None:
        """Tell it to shut down, without waiting."""
        assert self._process is not None
        self._process.terminate()

    def cut(self, keep: float, journal: bool, chance: random.Random) -> None:
        """Pull the plug; the data folder is then what a disk may have of it."""
        self.kill()
        assert self._disks is not None
        for record in read_log(self._record):
            for disk in self._disks:
                disk.follow(record)
        shutil.rmtree(self.data)
        self._disks[journal].after_cut(self.data, keep, chance)
        self._record.unlink()

    def kill(self) -> None:
        """End every process that writes into the record, however it came to be."""
        if self._process is None:
            return
        self._process.kill()
        end_s = time.monotonic() + LIMIT_S
        while pids := list(self._pids()):
            if time.monotonic() > end_s:
                raise RvmError(f"processes {pids} do not end")
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        self._process.wait()

    def _pids(self) -> Iterator[int]:
        mark = f"POWERCUT_LOG={self._record}".encode()
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                if process.name.isdigit() and mark in (process / "environ").read_bytes().split(b"\0"):
                    yield int(process.name)


class Campaign:
    """Cut after cut on one machine."""

    def __init__(self, around: Outside, computer: Computer, chance: random.Random) -> None:
        self._around, self._computer, self._chance = around, computer, chance
        self._customer, self._cabinet = around.customer, around.cabinet
        self._well = Books()
        self._known: set[str] = set()  # problems that were told already

    def round(self, point: str) -> list[str]:
        """Put an item in, cut at the point, start again; what the audit of all that has been says anew."""
        if point == "start":
            self._cut()
            self._computer.switch_on()
            self._cabinet.insert(Kind.MINERAL)
            self._spin(self._chance.uniform(0.0, ANY_S))
        else:
            self._put_in(point)
        self._cut()
        return self.audit()

    def audit(self) -> list[str]:
        """Start, wait until all is at rest and the books agree; what does not that did before."""
        self._computer.switch_on()
        try:
            self._wait(self._quiet, "a machine at rest")
        except RvmError as error:
            return [str(error)]
        with suppress(RvmError):  # the difference is told below
            self._wait(lambda: not set(self._books().problems(self._well)) - self._known, "books that agree", 30.0)
        now = self._books()
        new = [line for line in now.problems(self._well) if line not in self._known]
        self._known.update(new)
        self._well = now
        return new

    def _cut(self) -> None:
        self._computer.cut(self._chance.choice(KEEP), self._chance.random() < 0.5, self._chance)
        self._spin(0.2)  # what was told in the last moment
        self._customer.status, self._customer.state = SystemStatus(), DepositState()

    def _put_in(self, point: str) -> None:
        seen: list[str] = []
        chance, customer = self._chance, self._customer
        told, credited = set(customer.results), len(self._around.server.ledger())
        any_s = chance.uniform(0.0, ANY_S)
        late_s = chance.choice([0.0, chance.uniform(0.0, LATE_S)])
        customer.on_state = lambda message: seen.extend(
            name
            for name in STATES
            if message.state == getattr(DepositState, name) and (message.deposit_id or name == "SHOWING")
        )
        customer.on_gate = lambda gate: seen.append("gate moves") if gate.motor_on else None

        def reached() -> bool:
            if set(customer.results) - told:
                seen.append("told")
            if point == "credited" and len(self._around.server.ledger()) > credited:
                seen.append("credited")
            return point in seen

        try:
            self._cabinet.insert(STATES.get(point, Kind.MINERAL))
            if point in ("any moment", "shut down"):
                self._spin(any_s)
                if point == "shut down":
                    self._computer.end()
                    self._spin(chance.uniform(0.0, 2.0))
            else:
                with suppress(RvmError):  # a picture may be refused: then the cut comes at rest
                    customer.wait(lambda: reached() or (told < set(customer.results) and self._quiet()), point, 30.0)
                time.sleep(late_s)
        finally:
            customer.on_state = lambda _: None
            customer.on_gate = lambda _: None

    def _books(self) -> Books:
        return books.read(self._computer.data, self._around.server, self._cabinet, self._customer)

    def _quiet(self) -> bool:
        customer = self._customer
        return (
            customer.status.mode in (SystemStatus.SERVING, SystemStatus.DEGRADED)
            and all(node.lifecycle_state == State.PRIMARY_STATE_ACTIVE for node in customer.status.nodes)
            and customer.state.state in READY_STATES
            and self._cabinet.chamber_is_free()
        )

    def _wait(self, condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
        self._customer.wait(condition, what, limit_s)

    def _spin(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        self._wait(lambda: time.monotonic() > end_s, "time")


def main() -> int:
    """All cuts and the table."""
    parser = argparse.ArgumentParser(description="Kill the whole machine, drop what was not synced, start, audit.")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--points", default=",".join(POINTS), help="names with commas")
    parser.add_argument("--leave-out", choices=list(LEFT_OUT), help="a sync that never happens")
    arguments = parser.parse_args()
    chance, named = random.Random(arguments.seed), arguments.points.split(",")
    if wrong := set(named) - set(POINTS):
        parser.error(f"--points: {', '.join(wrong)}: not one of {', '.join(POINTS)}")
    points: Counter[str] = Counter()
    bad, begun_s = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="powercut-") as folder, outside(Path(folder)) as around:
        computer = Computer(around, LEFT_OUT.get(arguments.leave_out, lambda path: False))
        campaign = Campaign(around, computer, chance)
        try:
            if problems := campaign.audit():
                raise RvmError("; ".join(problems))
            while points.total() < arguments.cuts:
                for point in chance.sample(named, len(named))[: arguments.cuts - points.total()]:
                    problems = campaign.round(point)
                    points[point] += 1
                    bad += bool(problems)
                    print(f"{points.total():4} {point}: {'; '.join(problems) or 'agree'}", flush=True)
        finally:
            computer.kill()
    for point, count in sorted(points.items()):
        print(f"{count:6}  {point}")
    took_s = time.monotonic() - begun_s
    print(f"{points.total()} cuts of real processes at {len(points)} points, {took_s:.0f} s: {bad} audits do not agree")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
