"""What speaks against an item that looks right: facts by name against a written table, first hit wins. Pure.

A row refuses with its `reason`, or marks with its `flag`: such an item is accepted, and the operator is told. It hits
when all of its conditions hold. A fact that is not known (absent, NaN, empty) fulfils no condition but `missing`, so
nobody is refused for what was not measured unless the table says so. Refusing rows stand before those that mark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from pathlib import Path
from typing import Any, TypeAlias

from myrvm_core.errors import SettingsError
from myrvm_core.settings import read_yaml
from myrvm_core.verdict import Reason

Facts: TypeAlias = Mapping[str, float | str]

# What a customer can do about it; the other reasons are of the machine's own state.
REASONS = (
    Reason.MULTIPLE_ITEMS, Reason.NOT_EMPTY, Reason.REFUSED_MATERIAL, Reason.NOT_A_BOTTLE, Reason.NOT_SURE,
    Reason.TURN_IT, Reason.LET_GO,
)  # fmt: skip
FLAG = re.compile(r"[a-z][a-z0-9_]{0,39}")
TESTS: dict[str, Callable[[float, float], bool]] = {"above": gt, "below": lt, "at_least": ge, "at_most": le}


@dataclass(frozen=True)
class Fact:
    """What can be known of an item: a word of `words`, else a number. `late`: only after the gate has moved."""

    doc: str
    words: tuple[str, ...] = ()
    late: bool = False


FACTS: dict[str, Fact] = {
    # look
    "class": Fact("class that the network gives it", ("*",)),
    "score": Fact("the network's score, 0 .. 1"),
    # outline
    "mask_score": Fact("stability of the outline, 0 .. 1"),
    "length_m": Fact("along its longer axis"),
    "width_m": Fact("across it"),
    "slenderness": Fact("length by width"),
    "taper": Fact("width of the narrower end by that of the body: a bottle has a neck"),
    "volume_l": Fact("of a bottle with such an outline"),
    "crush": Fact("0 as new .. 1 flat"),
    "fill": Fact("share of the inside that holds liquid, 0 .. 1"),
    "cap": Fact("probability that it has one, 0 .. 1"),
    "parts": Fact("items that touch"),
    # weight
    "weight_kg": Fact("on the scale under the chamber"),
    "weight_spread_kg": Fact("largest less smallest weight since it lies there"),
    "heft_kg_per_l": Fact("weight by volume, the product's or else the outline's"),
    # barcode
    "barcode": Fact("read and in the table of products, read and not in it, not read", ("known", "unknown", "none")),
    "product_class": Fact("the product's class against the look", ("same", "other")),
    "volume_ratio": Fact("the outline's volume by the product's"),
    "weight_deviation": Fact("weight less the product's empty weight, in its spreads"),
    # sequence of the sensors
    "hand": Fact("a hand is in the gate", ("inside", "away")),
    "gaps": Fact("times the entry's beam was free and broken again since it entered"),
    "falls": Fact("falls into the bin in this movement of the gate", late=True),
    "left": Fact("times the entry's beam got free in this movement of the gate", late=True),
    "entered_before_fall": Fact("times the entry's beam was broken anew before the fall", late=True),
    "entered_after_fall": Fact("times it was broken anew between the fall and the closing of the gate", late=True),
    "rose": Fact(
        "things that came up again after the fall: they passed the entry, and neither fell nor stayed", late=True
    ),
    "weight_left_kg": Fact("on the scale when the gate has closed, where the entry's beam never got free", late=True),
    "taken_since_free": Fact("items taken since the entry's beam was free last, with this one", late=True),
    # time
    "since_last_s": Fact("since the last item was taken"),
    "alike": Fact("items taken lately that look like this one"),
    "picture_faults": Fact("refusals in a row, with this one, for a dark, bright, blurred or absent picture"),
}


@dataclass(frozen=True)
class Condition:
    """One condition on one fact; `test` is one of `TESTS`, `words` or `missing`."""

    fact: str
    test: str
    limit: float = math.nan
    words: tuple[str, ...] = ()

    def holds(self, facts: Facts) -> bool:
        """Whether it is fulfilled; never by a fact that is not known, but for `missing`."""
        value = facts.get(self.fact, "")
        missing = value == "" or (isinstance(value, float) and math.isnan(value))
        if missing or self.test == "missing":
            return missing and self.test == "missing"
        if isinstance(value, str):
            return self.test == "words" and value in self.words
        return self.test in TESTS and TESTS[self.test](value, self.limit)


@dataclass(frozen=True)
class Row:
    """Refuses with `reason`, or marks with `flag` (`reason` is NONE then)."""

    reason: Reason
    flag: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Finding:
    """The row that hit, and its number from 1; `reason` NONE: it only marks."""

    row: int
    reason: Reason
    flag: str = ""


@dataclass(frozen=True)
class EvidenceTable:
    """The rows in their order; without any, nothing speaks against an item."""

    rows: tuple[Row, ...] = ()

    def judge(self, facts: Facts) -> Finding | None:
        """The first row that hits, None where none does."""
        return self._first(facts, lambda row: True)

    def mark(self, facts: Facts) -> Finding | None:
        """The first row that hits of those that only mark."""
        return self._first(facts, lambda row: row.reason is Reason.NONE)

    def _first(self, facts: Facts, counts: Callable[[Row], bool]) -> Finding | None:
        for number, row in enumerate(self.rows, start=1):
            if counts(row) and all(condition.holds(facts) for condition in row.conditions):
                return Finding(number, row.reason, row.flag)
        return None

    def asks_for(self, *names: str) -> bool:
        """Whether a row has a condition on one of these facts."""
        return any(condition.fact in names for row in self.rows for condition in row.conditions)

    @property
    def watches_the_gate(self) -> bool:
        """Whether a row wants to know what happens until the gate has closed."""
        return self.asks_for(*(name for name, fact in FACTS.items() if fact.late))


def facts_table() -> str:
    """The facts as a Markdown table, for the docs."""
    lines = ["| fact | what it is | words | known |", "|---|---|---|---|"]
    for name, fact in FACTS.items():
        words = "any" if "*" in fact.words else ", ".join(fact.words) or "a number"
        lines.append(f"| `{name}` | {fact.doc} | {words} | {'when the gate has closed' if fact.late else 'before'} |")
    return "\n".join(lines) + "\n"


def load(file: Path) -> EvidenceTable:
    """Read a table, `evidence: [...]`, from a YAML file.

    Raises:
        SettingsError: the file cannot be read, or a row is not allowed (file, row, value, what is allowed).
    """
    return parse(read_yaml(file), str(file))


def parse(raw: Any, source: str) -> EvidenceTable:
    """Build a table from the parsed file; errors as in `load`."""
    if not isinstance(raw, dict) or set(raw) != {"evidence"} or not isinstance(raw["evidence"], list):  # pyright: ignore[reportUnknownArgumentType]
        raise SettingsError(f"{source} must be a mapping with one name, 'evidence', a list of rows")
    rows: list[Row] = []
    entries: list[Any] = list(raw["evidence"])  # pyright: ignore[reportUnknownArgumentType]
    for number, entry in enumerate(entries, start=1):
        row = _row(entry, f"{source}: row {number}")
        if row.reason is not Reason.NONE and rows and rows[-1].flag:
            raise SettingsError(f"{source}: row {number} refuses and stands after one that marks: it must stand before")
        rows.append(row)
    return EvidenceTable(tuple(rows))


def _row(entry: Any, where: str) -> Row:
    if not isinstance(entry, dict) or ("reason" in entry) == ("flag" in entry):
        raise SettingsError(f"{where} = {entry!r} is not allowed: a mapping with 'reason' or 'flag', and conditions")
    fields: dict[Any, Any] = dict(entry)  # pyright: ignore[reportUnknownArgumentType]
    reason, flag = fields.pop("reason", Reason.NONE.name), fields.pop("flag", "")
    allowed = [known.name for known in REASONS]
    if "flag" not in entry and reason not in allowed:
        raise SettingsError(f"{where}.reason = {reason!r} is not allowed: one of {', '.join(allowed)}")
    if "flag" in entry and not (isinstance(flag, str) and FLAG.fullmatch(flag)):
        raise SettingsError(f"{where}.flag = {flag!r} is not allowed: a word such as same_item")
    conditions = [condition for name, value in fields.items() for condition in _conditions(str(name), value, where)]
    if not conditions:
        raise SettingsError(f"{where} has no condition: it would hit whatever comes")
    return Row(Reason[reason], flag, tuple(conditions))


def _conditions(name: str, value: Any, where: str) -> list[Condition]:
    if name == "missing":
        known = [fact for fact, about in FACTS.items() if not about.late]
        if not isinstance(value, list) or not value or any(fact not in known for fact in value):  # pyright: ignore[reportUnknownVariableType]
            raise SettingsError(f"{where}.missing = {value!r} is not allowed: a list of {', '.join(known)}")
        return [Condition(str(fact), "missing") for fact in value]  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
    fact, _, test = next((name.rpartition(f"_{test}")[0], "", test) for test in (*TESTS, "") if name.endswith(test))
    fact = fact if test else name
    if fact not in FACTS or (bool(FACTS[fact].words) == bool(test)):
        names = [f"{known}_{'|'.join(TESTS)}" if not about.words else known for known, about in FACTS.items()]
        raise SettingsError(f"{where}.{name} is not allowed: missing, {', '.join(names)}")
    if test:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise SettingsError(f"{where}.{name} = {value!r} is not allowed: a number")
        return [Condition(fact, test, float(value))]
    words: list[Any] = list(value) if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownArgumentType]
    known_words = FACTS[fact].words
    free = "*" in known_words
    if not words or not all(isinstance(word, str) and (free or word in known_words) for word in words):
        allowed = "a word or a list of words" if free else f"of {', '.join(known_words)}"
        raise SettingsError(f"{where}.{name} = {value!r} is not allowed: {allowed}")
    return [Condition(fact, "words", words=tuple(words))]
