"""A stand-in for the offline buffer: its rules in memory, as the bridge's `Port`, without disk and ROS."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from myrvm_cloud.bridge import Fate, Line
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind

from myrvm_cloud import contract


def deposit(number: int, account_id: str = "alice", session_id: str = "s") -> DepositRecord:
    """One that was taken."""
    session = Session(SessionKind.ACCOUNT, session_id, account_id)
    return DepositRecord(str(uuid.UUID(int=number)), "mineral", 0.5, 5, 1_500_000_000 + number, session)


@dataclass
class MemoryBuffer:
    """Deposits and what the bridge has told."""

    records: dict[str, DepositRecord] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    welcomes: list[contract.HandshakeAnswer] = field(default_factory=list)
    commands: list[Any] = field(default_factory=list)
    leases: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def add(self, *records: DepositRecord) -> None:
        """To be sent."""
        for record in records:
            self.records[record.deposit_id] = record
            self.states[record.deposit_id] = "pending"

    def count(self, state: str) -> int:
        return list(self.states.values()).count(state)

    @property
    def settled(self) -> bool:
        """Whether nothing is left that the bridge may send."""
        return not self.count("pending") and not self.count("leased")

    def expire(self) -> None:
        """All leases run out: whoever held them is dead."""
        for deposit_id, (_, once) in self.leases.items():
            if self.states[deposit_id] == "leased":
                self.states[deposit_id] = "uncertain" if once else "pending"
                self.reasons[deposit_id] = "the lease ran out"

    @property
    def buffer(self) -> MemoryBuffer:
        return self

    async def lease(self, limit: int, duration_s: float, once: bool) -> tuple[str, list[DepositRecord]]:
        ids = [deposit_id for deposit_id, state in self.states.items() if state == "pending"][:limit]
        lease_id = uuid.uuid4().hex if ids else ""
        for deposit_id in ids:
            self.states[deposit_id] = "leased"
            self.leases[deposit_id] = (lease_id, once)
        return lease_id, [self.records[deposit_id] for deposit_id in ids]

    async def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> int:
        for deposit_id in deposit_ids:
            self.states[deposit_id] = "acked"
        return len(deposit_ids)

    async def nack(self, lease_id: str, deposit_ids: Sequence[str], fate: Fate, reason: str) -> int:
        for deposit_id in deposit_ids:
            assert self.states[deposit_id] == "leased"
            assert self.leases[deposit_id][0] == lease_id
            self.states[deposit_id] = {Fate.AGAIN: "pending", Fate.DEAD: "dead", Fate.UNCERTAIN: "uncertain"}[fate]
            self.reasons[deposit_id] = reason
        return len(deposit_ids)

    def line_changed(self, line: Line) -> None:
        self.lines.append(line)

    def welcomed(self, answer: contract.HandshakeAnswer) -> None:
        self.welcomes.append(answer)

    def command(self, envelope: Any) -> None:
        self.commands.append(envelope)
