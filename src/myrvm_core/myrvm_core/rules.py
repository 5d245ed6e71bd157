"""Acceptance rules: a table, first hit wins, each row with its reason. Pure: one frame's findings in, one decision out.

A row hits when all of its conditions hold. An accepting row (reason NONE) must name classes and a score, and the last
row must have no condition: what no row knows is refused, whatever the file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from myrvm_core.errors import SettingsError
from myrvm_core.settings import read_yaml, validate
from myrvm_core.verdict import Box, Detection, Reason

THRESHOLD = "threshold"
# What one frame can say; the other reasons belong to the vote and to the deposit.
REASONS = tuple(reason for reason in Reason if reason <= Reason.PICTURE_BLURRED)


class PictureFault(Enum):
    """What can be wrong with a picture."""

    DARK = "dark"
    OVEREXPOSED = "overexposed"
    BLURRED = "blurred"


@dataclass(frozen=True)
class Findings:
    """What was seen in one frame: separate items, best score first, and the picture's faults."""

    items: tuple[Detection, ...] = ()
    faults: frozenset[PictureFault] = frozenset()


@dataclass(frozen=True)
class Decision:
    """The answer of one frame, with the item that it is about, and the number of the row that hit (from 1)."""

    reason: Reason
    item: Detection | None = None
    row: int = 0


def _reason(value: Any) -> Any:
    allowed = [reason.name for reason in REASONS]
    if isinstance(value, Reason):
        return value
    if value not in allowed:
        raise ValueError(f"one of {', '.join(allowed)}")
    return Reason[value]


def _score(value: Any) -> Any:
    if value != THRESHOLD and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1):
        raise ValueError(f"a number 0 .. 1, or {THRESHOLD!r}")
    return value


Score = Annotated[float | str, BeforeValidator(_score)]


class Rule(BaseModel):
    """One row. A condition that is left out holds always."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Annotated[Reason, BeforeValidator(_reason)]
    picture: PictureFault | None = None
    items_at_least: int | None = Field(default=None, ge=0, le=300)
    items_at_most: int | None = Field(default=None, ge=0, le=300)
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    score_below: Score | None = None
    score_at_least: Score | None = None

    @property
    def has_condition(self) -> bool:
        """False for the row that catches everything."""
        return any(getattr(self, name) is not None for name in Rule.model_fields if name != "reason")

    def hits(self, findings: Findings, threshold: float) -> bool:
        """Whether every condition holds. Class and score are those of the best item; without an item they do not."""
        best = findings.items[0] if findings.items else None
        if self.picture is not None and self.picture not in findings.faults:
            return False
        if self.items_at_least is not None and len(findings.items) < self.items_at_least:
            return False
        if self.items_at_most is not None and len(findings.items) > self.items_at_most:
            return False
        if self.classes is not None and (best is None or best.class_name not in self.classes):
            return False
        if self.score_below is not None and (best is None or best.score >= _limit(self.score_below, threshold)):
            return False
        return self.score_at_least is None or (
            best is not None and best.score >= _limit(self.score_at_least, threshold)
        )


def _limit(score: float | str, threshold: float) -> float:
    return threshold if isinstance(score, str) else score


@dataclass(frozen=True)
class RuleTable:
    """The rows in their order, and the score that the word `threshold` in them stands for."""

    rules: tuple[Rule, ...]
    threshold: float
    source: str = "rules"

    def decide(self, findings: Findings) -> Decision:
        """The reason of the first row that hits; NONE accepts."""
        best = findings.items[0] if findings.items else None
        for number, rule in enumerate(self.rules, start=1):
            if rule.hits(findings, self.threshold):
                return Decision(rule.reason, best, number)
        raise AssertionError("parse() lets no table through whose last row has a condition")

    def check_classes(self, known: tuple[str, ...]) -> None:
        """Refuse a table that names a class which the model does not have.

        Raises:
            SettingsError: names the row, the class and the model's classes.
        """
        for number, rule in enumerate(self.rules, start=1):
            for name in rule.classes or ():
                if name not in known:
                    raise SettingsError(
                        f"{self.source}: row {number}.classes = {name!r} is not allowed: "
                        f"the model knows {', '.join(known)}"
                    )


def separate_items(detections: tuple[Detection, ...], least_score: float, same_overlap: float) -> tuple[Detection, ...]:
    """Count objects, not boxes: drop weak detections, and of boxes on the same object keep the best one.

    Args:
        detections: of one frame, any order, any class.
        least_score: a detection under it is no item, 0 .. 1.
        same_overlap: boxes with an intersection over union of at least this are one object, whatever their classes.
    """
    items: list[Detection] = []
    for candidate in sorted(detections, key=lambda detection: -detection.score):
        if candidate.score >= least_score and all(overlap(candidate.box, item.box) < same_overlap for item in items):
            items.append(candidate)
    return tuple(items)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, 0 .. 1; 0 where both are empty."""
    width = min(first.x_max, second.x_max) - max(first.x_min, second.x_min)
    height = min(first.y_max, second.y_max) - max(first.y_min, second.y_min)
    shared = max(width, 0.0) * max(height, 0.0)
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0.0 else 0.0


def _area(box: Box) -> float:
    return max(box.x_max - box.x_min, 0.0) * max(box.y_max - box.y_min, 0.0)


def load(file: Path, threshold: float) -> RuleTable:
    """Read a table, `rules: [...]`, from a YAML file.

    Raises:
        SettingsError: the file cannot be read, or a row is not allowed (file, row, value, what is allowed).
    """
    return parse(read_yaml(file), threshold, str(file))


def parse(raw: Any, threshold: float, source: str) -> RuleTable:
    """Build a table from the parsed file; errors as in `load`."""
    if not isinstance(raw, dict) or set(raw) != {"rules"} or not isinstance(raw["rules"], list) or not raw["rules"]:  # pyright: ignore[reportUnknownArgumentType]
        raise SettingsError(f"{source} must be a mapping with one name, 'rules', a list of rows")
    rules: list[Rule] = []
    rows: list[Any] = list(raw["rules"])  # pyright: ignore[reportUnknownArgumentType]
    for number, row in enumerate(rows, start=1):
        where = f"{source}: row {number}"
        if not isinstance(row, dict):
            raise SettingsError(f"{where} = {row!r} is not allowed: a mapping with 'reason' and conditions")
        rule = validate(Rule, row, where)  # pyright: ignore[reportUnknownArgumentType]
        if rule.reason is Reason.NONE and (rule.classes is None or rule.score_at_least is None):
            raise SettingsError(f"{where} accepts (reason NONE): it must name 'classes' and 'score_at_least'")
        if not rule.has_condition and number < len(rows):
            raise SettingsError(f"{where} has no condition: only the last row may, those after it would never hit")
        rules.append(rule)
    if rules[-1].has_condition:
        raise SettingsError(f"{source}: row {len(rows)} is the last and has a condition: it must catch everything")
    return RuleTable(tuple(rules), threshold, source)
