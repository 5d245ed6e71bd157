"""The books of a machine of real processes: ledger, buffer, bin and screen, for `audit.py`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from audit import ACCEPTED, UNRESOLVED, Evidence, audit, read_rows
from myrvm_sim.cabinet_client import CabinetClient
from myrvm_sim.customer import Customer
from myrvm_sim.items import Place
from myrvm_sim.server_client import ServerClient


@dataclass(frozen=True)
class Books:
    """What they say at one moment.

    Attributes:
        evidence: for the audit; without places, since the cabinet knows no ids.
        in_bin: items.
    """

    evidence: Evidence = field(default_factory=Evidence)
    in_bin: int = 0

    @property
    def shown(self) -> Counter[int]:
        """Deposits by the outcome that was told."""
        return Counter({deposit: outcome for deposit, outcome, _ in self.evidence.shown}.values())

    def lost(self, before: Books) -> int:
        """Items that came into the bin since `before` and that nobody was told about."""
        told = sum(self.shown[outcome] - before.shown[outcome] for outcome in (ACCEPTED, UNRESOLVED))
        return max(0, self.in_bin - before.in_bin - told)

    def doubled(self, before: Books) -> int:
        """Credits since `before` beyond one for each item that came into the bin."""
        return max(0, len(self.evidence.credited) - len(before.evidence.credited) - (self.in_bin - before.in_bin))

    def problems(self, before: Books) -> list[str]:
        """What does not agree, a line each; at `before` all was well."""
        lines = audit(self.evidence)
        if self.lost(before) or self.doubled(before):
            credited = len(self.evidence.credited) - len(before.evidence.credited)
            lines.append(f"{self.in_bin - before.in_bin} items more in the bin, {credited} more credited")
        return lines


def read(data: Path, server: ServerClient, cabinet: CabinetClient, customer: Customer) -> Books:
    """Read them.

    Raises:
        DeviceError, ServerError: cabinet or server do not answer.
    """
    evidence = Evidence(
        credited=[(credit.deposit_id, credit.points) for credit in server.ledger()],
        rows=read_rows(data / "buffer" / "deposits.db"),
        shown=[(result.deposit_id, result.outcome, result.points) for result in customer.results.values()],
        pictures={path.stem for path in (data / "unresolved").glob("*.jpg")},
    )
    return Books(evidence, sum(item["place"] == Place.BIN.value for item in cabinet.truth()["items"]))
