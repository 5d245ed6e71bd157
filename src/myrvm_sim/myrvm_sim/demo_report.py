"""What the demo found: one row an item, the accounts, the bin, and whether they agree. Free of I/O.

Three independent witnesses: what the customer was shown (`deposit/result`), the server's ledger, and where the items
really are. The demo succeeds only when all three agree, item by item.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import quantiles

ACCEPTED, RETURNED, UNRESOLVED = "accepted", "returned", "unresolved"
DONATIONS = "donations"


@dataclass(frozen=True)
class Row:
    """One item; `place` is where it really ended, `outcome` what was shown, empty if nothing was."""

    number: int
    kind: str
    account: str
    deposit_id: str = ""
    outcome: str = ""
    reason: str = ""
    class_name: str = ""
    score: float = 0.0
    place: str = ""
    latency_s: float | None = None
    points: int = 0
    recovered: bool = False
    disguised: bool = False  # it looks like an empty bottle of mineral water


@dataclass(frozen=True)
class Credit:
    """One line of the server's ledger."""

    deposit_id: str
    account: str
    points: int


@dataclass(frozen=True)
class Happened:
    """One incident: the number of its item, and what the cabinet's log or the clock tell of it."""

    incident: str
    item: int
    seen: str
    survived: bool


@dataclass(frozen=True)
class Seen:
    """Something that was tried, what came of it, and whether that is right."""

    what: str
    seen: str
    right: bool


@dataclass(frozen=True)
class Figures:
    """Measured on the way."""

    graph_start_s: float = 0.0
    peak_memory_mb: float = 0.0
    told_again: int = 0
    server_down_s: float = 0.0
    duration_s: float = 0.0


@dataclass(frozen=True)
class Report:
    """Everything, and the judgement."""

    rows: list[Row]
    ledger: list[Credit]
    incidents: list[Happened] = field(default_factory=list)
    afar: list[Seen] = field(default_factory=list)
    figures: Figures = field(default_factory=Figures)
    troubles: list[str] = field(default_factory=list)

    @property
    def shown(self) -> dict[str, Row]:
        """Items that the customer was shown as accepted, by deposit."""
        return {row.deposit_id: row for row in self.rows if row.outcome == ACCEPTED}

    @property
    def lost(self) -> list[str]:
        """Deposits that were shown as accepted and are not in the ledger."""
        credited = {credit.deposit_id for credit in self.ledger}
        return [deposit for deposit in self.shown if deposit not in credited]

    @property
    def doubled(self) -> list[str]:
        """Deposits that are in the ledger more than once."""
        return [deposit for deposit, times in Counter(c.deposit_id for c in self.ledger).items() if times > 1]

    @property
    def wrong_credits(self) -> list[str]:
        """Deposits in the ledger that were not shown, or with other points or for another account."""
        return [
            credit.deposit_id
            for credit in self.ledger
            if (row := self.shown.get(credit.deposit_id)) is None
            or (row.account, row.points) != (credit.account, credit.points)
        ]

    @property
    def wrong_places(self) -> list[int]:
        """Items that lie in the bin and were not shown as accepted, or the other way round."""
        return [row.number for row in self.rows if (row.place == "bin") != (row.outcome == ACCEPTED)]

    @property
    def untold(self) -> list[int]:
        """Items about which the customer was told nothing."""
        return [row.number for row in self.rows if not row.outcome]

    @property
    def wrongly_accepted(self) -> list[int]:
        """Items that are no single empty mineral-water bottle, and were accepted."""
        return [row.number for row in self.rows if row.kind != "mineral" and row.outcome == ACCEPTED]

    @property
    def tricks(self) -> tuple[int, int]:
        """Items that look like an empty bottle and are none: those that were accepted, and all."""
        disguised = [row for row in self.rows if row.disguised]
        return sum(row.outcome == ACCEPTED for row in disguised), len(disguised)

    @property
    def wrongly_refused(self) -> list[int]:
        """Empty mineral-water bottles that were not accepted."""
        return [row.number for row in self.rows if row.kind == "mineral" and row.outcome != ACCEPTED]

    @property
    def latencies_s(self) -> tuple[float, float]:
        """Median and 95th percentile of item in to verdict, s; nan where fewer than two were measured."""
        measured = [row.latency_s for row in self.rows if row.latency_s is not None]
        if len(measured) < 2:
            return float("nan"), float("nan")
        cuts = quantiles(measured, n=100, method="inclusive")
        return cuts[49], cuts[94]

    def accounts(self) -> dict[str, tuple[int, int]]:
        """Account to (points shown, points credited)."""
        shown: Counter[str] = Counter()
        credited: Counter[str] = Counter()
        for row in self.shown.values():
            shown[row.account] += row.points
        for credit in self.ledger:
            credited[credit.account] += credit.points
        return {name: (shown[name], credited[name]) for name in sorted({*shown, *credited})}

    @property
    def agrees(self) -> bool:
        """Whether customer, ledger and bin agree and nothing went wrong on the way."""
        hurt = [happened for happened in self.incidents if not happened.survived]
        wrong = [seen for seen in self.afar if not seen.right]
        disagreements = (
            hurt,
            wrong,
            self.lost,
            self.doubled,
            self.wrong_credits,
            self.wrong_places,
            self.untold,
            self.troubles,
        )
        return bool(self.rows) and not any(disagreements)
