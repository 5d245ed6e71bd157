"""Domain types of what is kept and sent. Numbers equal the constants of `msg/DepositRecord` and `msg/Session`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from myrvm_core.verdict import ModelInfo


class SessionKind(IntEnum):
    """Who gets the credit."""

    NONE = 0
    ACCOUNT = 1
    DONATION = 2
    VOUCHER = 3


class Stage(IntEnum):
    """How far an accepted item has come through the machine."""

    ACCEPTED = 1
    TAKEN = 2
    RETURNED = 3
    UNRESOLVED = 4


@dataclass(frozen=True)
class Session:
    """One visit of one customer; `session_id` is a UUIDv7, empty where there is no session.

    `account_id` is an account as the server names it, or the voucher's id, which is the session's.
    """

    kind: SessionKind = SessionKind.NONE
    session_id: str = ""
    account_id: str = ""
    started_at_ns: int = 0


@dataclass(frozen=True)
class DepositRecord:
    """One accepted item. `deposit_id` is a UUIDv7 made once; `weight_kg` is None if not weighed.

    `accepted_at_ns` is the machine's time of day then, `accepted_monotonic_ns` the same moment on CLOCK_BOOTTIME of the
    boot `boot_id`: with these it is corrected where `clock_synchronised` says that it could not be trusted.
    """

    deposit_id: str
    class_name: str
    score: float
    points: int
    accepted_at_ns: int
    session: Session = field(default_factory=Session)
    weight_kg: float | None = None
    model: ModelInfo = field(default_factory=ModelInfo)
    stage: Stage = Stage.ACCEPTED
    shown: bool = False
    attempts: int = 0
    accepted_monotonic_ns: int = 0
    boot_id: str = ""
    clock_synchronised: bool = False


@dataclass(frozen=True)
class TelemetryRecord:
    """One measurement; `name` carries the unit."""

    stamp_ns: int
    source: str
    name: str
    value: float
