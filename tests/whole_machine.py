"""The whole machine for a test: real graph, simulated cabinet, reference server, a customer who watches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from myrvm_core.errors import RvmError
from myrvm_interfaces.msg import CloudStatus, DepositResult, SystemStatus
from myrvm_sim.customer import READY_STATES, Customer
from myrvm_sim.desk import Desk, Options, desk
from myrvm_sim.physics import Kind

LIMIT_S = 60.0


@dataclass
class Machine:
    """What a test of the whole machine does over and over."""

    desk: Desk
    customer: Customer

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Watch until the condition holds."""
        try:
            self.customer.wait(condition, what, LIMIT_S)
        except RvmError as error:
            pytest.fail(f"{error}\n{self.logs()}")

    def logs(self) -> str:
        """The end of what each process printed."""
        files = sorted((self.desk.folder / "logs").glob("*.out"))
        return "\n".join(f"--- {file.stem}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def wait_serving(self) -> None:
        """Until everything is there, the server too."""
        status, online = SystemStatus.SERVING, CloudStatus.ONLINE
        self.wait(lambda: self.customer.status.mode == status and self.customer.cloud.state == online, "SERVING")

    def wait_ready(self) -> None:
        """Until the next item may come."""
        self.wait(
            lambda: self.customer.state.state in READY_STATES and self.desk.cabinet.chamber_is_free(), "a free chamber"
        )

    def insert(self, kind: Kind) -> DepositResult:
        """Put an item in; what the customer is told about it."""
        self.wait_ready()
        known = set(self.customer.results)
        self.desk.cabinet.insert(kind)
        self.wait(lambda: set(self.customer.results) - known, "a result")
        (deposit_id,) = set(self.customer.results) - known
        return self.customer.results[deposit_id]

    def audit(self) -> None:
        """Screen, ledger and bin agree: what was shown as accepted is credited once, and nothing else is."""
        results = self.customer.results.values()
        shown = {r.deposit_id: r.points for r in results if r.outcome == DepositResult.ACCEPTED}
        self.wait(lambda: len(self.desk.server.ledger()) >= len(shown), "the whole ledger")
        ledger = self.desk.server.ledger()
        assert sorted((credit.deposit_id, credit.points) for credit in ledger) == sorted(shown.items())
        unresolved = sum(r.outcome == DepositResult.UNRESOLVED for r in results)
        in_bin = sum(item["place"] == "bin" for item in self.desk.cabinet.truth()["items"])
        assert len(shown) <= in_bin <= len(shown) + unresolved


@contextmanager
def whole_machine(options: Options) -> Iterator[Machine]:
    """A machine that serves; it ends with the context."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="myrvm-") as folder:  # pytest's own paths are too long for a socket
        try:
            with desk(Path(folder), options) as running, Customer() as customer:
                built = Machine(running, customer)
                built.wait_serving()
                yield built
        finally:
            os.environ.clear()
            os.environ.update(before)
