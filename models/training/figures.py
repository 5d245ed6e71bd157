"""Figures of a detector from what was there and what was found: pure functions, no picture is opened here.

COCO's average precision comes from pycocotools; the rest says what a machine would have done.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from myrvm_core.rules import Decision, Findings, RuleTable, overlap
from myrvm_core.verdict import Box, Detection, Reason
from numpy.typing import NDArray
from picture_sets import CLASSES, NOT_EMPTY, PHOTOGRAPH, TRICKS, Item, Picture, Sides
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.stats import binomtest

SAME = 0.5  # intersection over union from which a box is the item's
BACKGROUND = "(nothing)"
DECIDED = {
    "accept_precision": "of what is accepted, acceptable",
    "accept_precision_without_tricks": "of what is accepted, acceptable, but for tricks that the evidence is to catch",
    "accept_recall": "of what is acceptable, accepted",
    "wrongly_accepted": "of what is to be refused, accepted",
    "tricks_accepted": "of tricks, accepted by look",
    "not_empty_accepted": "of bottles that are not empty, accepted",
}


@dataclass(frozen=True)
class Judged:
    """What the machine made of one picture: findings and decision; `ranked` are all boxes, also weak ones."""

    picture: Picture
    findings: Findings
    decision: Decision
    ranked: tuple[Detection, ...] = ()

    @property
    def items(self) -> tuple[Detection, ...]:
        """The separate items, best score first."""
        return self.findings.items

    @property
    def accepted(self) -> bool:
        """Whether a machine that has only this picture would take it."""
        return self.decision.reason is Reason.NONE


def overlap_of(sides: Sides, box: Box) -> float:
    """Intersection over union."""
    return overlap(Box(*sides), box)


def pairs(items: Sequence[Item], found: Sequence[Detection]) -> list[tuple[Item | None, Detection | None]]:
    """Items with the boxes that are theirs, whatever the class: best score first, each box to what it fits best.

    An item that nothing was found for, and a box that belongs to none, stand alone.
    """
    free = list(items)
    joined: list[tuple[Item | None, Detection | None]] = []
    for detection in sorted(found, key=lambda one: -one.score):
        best = max(free, key=lambda item: overlap_of(item.box, detection.box), default=None)
        if best is not None and overlap_of(best.box, detection.box) >= SAME:
            free.remove(best)
            joined.append((best, detection))
        else:
            joined.append((None, detection))
    return joined + [(item, None) for item in free]


def interval(hits: int, count: int) -> dict[str, Any]:
    """A share with its 95 % confidence interval (Wilson); no share of nothing."""
    if count == 0:
        return {"hits": 0, "count": 0, "share": None, "low": None, "high": None}
    bounds = binomtest(hits, count).proportion_ci(0.95, "wilson")
    figures = {"share": hits / count, "low": float(bounds.low), "high": float(bounds.high)}
    return {"hits": hits, "count": count} | {name: round(value, 4) for name, value in figures.items()}


def confusion(judged: Iterable[Judged]) -> dict[str, dict[str, int]]:
    """How often an item of a class (row) was taken for another (column); background in either is a miss or a ghost.

    Items without a class are left out, and boxes on them.
    """
    names: tuple[str, ...] = (*CLASSES, BACKGROUND)
    table: dict[str, dict[str, int]] = {name: dict.fromkeys(names, 0) for name in names}
    for one in judged:
        for item, detection in pairs(one.picture.items, one.items):
            if item is not None and item.model_class is None:
                continue
            row = item.model_class if item is not None else BACKGROUND
            table[row or BACKGROUND][detection.class_name if detection is not None else BACKGROUND] += 1
    return table


def box_figures(judged: Sequence[Judged]) -> dict[str, dict[str, float | int | None]]:
    """Of each class and of all: items, precision and recall at the machine's own score, COCO's average precision."""
    table = confusion(judged)
    average = _average_precision(judged)
    rows: dict[str, dict[str, float | int | None]] = {}
    for name in CLASSES:
        there = sum(table[name].values())
        claimed = sum(row[name] for row in table.values())
        rows[name] = _row(there, claimed, table[name][name], average.get(name))
    right = sum(table[name][name] for name in CLASSES)
    there = sum(sum(table[name].values()) for name in CLASSES)
    claimed = sum(row[name] for row in table.values() for name in CLASSES)
    means = np.mean([average[name] for name in average], axis=0) if average else None
    return rows | {"all": _row(there, claimed, right, means)}


def _row(there: int, claimed: int, right: int, average: Sequence[float] | NDArray[np.float64] | None) -> dict[str, Any]:
    return {
        "items": there,
        "precision": round(right / claimed, 3) if claimed else None,
        "recall": round(right / there, 3) if there else None,
        "map50": round(float(average[0]), 3) if average is not None else None,
        "map50_95": round(float(average[1]), 3) if average is not None else None,
    }


def _average_precision(judged: Sequence[Judged]) -> dict[str, tuple[float, float]]:
    """AP at 0.5 and at 0.5 to 0.95 of each class that occurs; what is found on items without one does not count."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, one in enumerate(judged, start=1):
        for item in one.picture.items:
            for category in range(len(CLASSES)) if item.model_class is None else [CLASSES.index(item.model_class)]:
                annotations.append(_annotation(number, category, item, len(annotations) + 1))
        results += [
            {"image_id": number, "category_id": CLASSES.index(found.class_name), "bbox": _xywh(found.box),
             "score": found.score}
            for found in one.ranked if found.class_name in CLASSES
        ]  # fmt: skip
    if not results or not annotations:
        return {}
    truth: Any = COCO()
    truth.dataset = {
        "images": [{"id": number} for number in range(1, len(judged) + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # overlaps, recalls, classes; all sizes, most boxes
    found: dict[str, tuple[float, float]] = {}
    for number, name in enumerate(CLASSES):
        if (precision[:, :, number] >= 0).all():
            found[name] = (float(precision[0, :, number].mean()), float(precision[:, :, number].mean()))
    return found


def _annotation(picture: int, category: int, item: Item, number: int) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = item.box
    width, height = x_max - x_min, y_max - y_min
    return {
        "id": number, "image_id": picture, "category_id": category, "bbox": [x_min, y_min, width, height],
        "area": width * height, "iscrowd": int(item.model_class is None),
    }  # fmt: skip


def _xywh(box: Box) -> list[float]:
    return [box.x_min, box.y_min, box.x_max - box.x_min, box.y_max - box.y_min]


def decisions(judged: Sequence[Judged]) -> dict[str, Any]:
    """What the machine's rules would have accepted and missed, one picture an item."""
    acceptable = [one for one in judged if one.picture.acceptable]
    accepted = [one for one in judged if one.accepted]
    right = sum(one.picture.acceptable for one in accepted)
    tricks = [one for one in judged if one.picture.kind in TRICKS]
    full = [one for one in judged if NOT_EMPTY in one.picture.classes]
    reasons: dict[str, Counter[str]] = {one.picture.kind: Counter() for one in judged}
    for one in judged:
        reasons[one.picture.kind]["ACCEPTED" if one.accepted else one.decision.reason.name] += 1
    return {
        "accept_precision": interval(right, len(accepted)),
        "accept_precision_without_tricks": interval(right, sum(one.picture.kind not in TRICKS for one in accepted)),
        "accept_recall": interval(right, len(acceptable)),
        "wrongly_accepted": interval(len(accepted) - right, len(judged) - len(acceptable)),
        "tricks_accepted": interval(sum(one.accepted for one in tricks), len(tricks)),
        "not_empty_accepted": interval(sum(one.accepted for one in full), len(full)),
        "reasons": {kind: dict(counts) for kind, counts in reasons.items()},
    }


def slices(judged: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """Of each slice of the data: pictures, share of items found with their class, and what was accepted."""
    rows: dict[str, dict[str, Any]] = {}
    for name in sorted({name for one in judged for name in one.picture.slices}):
        part = [one for one in judged if name in one.picture.slices]
        outcome = decisions(part)
        right = [
            item.model_class == (detection.class_name if detection else None)
            for one in part for item, detection in pairs(one.picture.items, one.items)
            if item is not None and item.model_class is not None
        ]  # fmt: skip
        rows[name] = {
            "pictures": len(part),
            "items_right": interval(sum(right), len(right)),
            **{figure: outcome[figure] for figure in ("accept_precision", "accept_recall", "wrongly_accepted")},
        }
    return rows


def photographs(judged: Sequence[Judged]) -> dict[str, Any]:
    """Of photographs: how many bottles and cups are found, whatever their class, and how much that is not there.

    A photograph counts as found when something in it is; as false when a box in it belongs to nothing.
    """
    part = [one for one in judged if one.picture.kind == PHOTOGRAPH]
    found: list[bool] = []
    classes: list[bool] = []
    ghosts = boxes = 0
    ghostly: list[bool] = []
    of_slice: dict[str, list[bool]] = {}
    for one in part:
        joined = pairs(one.picture.items, one.items)
        hits = [detection is not None for item, detection in joined if item is not None]
        found += hits
        classes += [
            item.model_class == detection.class_name
            for item, detection in joined if item and detection and item.model_class
        ]  # fmt: skip
        false = sum(item is None for item, _ in joined)
        ghosts, boxes = ghosts + false, boxes + len(one.items)
        ghostly.append(false > 0)
        for name in one.picture.slices:
            of_slice.setdefault(name, []).append(any(hits))
    return {
        "pictures": len(part),
        "found": {name: interval(sum(hits), len(hits)) for name, hits in of_slice.items()},
        "objects_found": interval(sum(found), len(found)),
        "false_boxes": interval(ghosts, boxes),
        "pictures_with_false_box": interval(sum(ghostly), len(ghostly)),
        "class_right": interval(sum(classes), len(classes)),
    }


def scored(judged: Iterable[Judged]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score of each separate item that was found, and whether it is right; those without a class are left out."""
    scores: list[float] = []
    right: list[bool] = []
    for one in judged:
        for item, detection in pairs(one.picture.items, one.items):
            if detection is not None and (item is None or item.model_class is not None):
                scores.append(detection.score)
                right.append(item is not None and item.model_class == detection.class_name)
    return np.array(scores, np.float64), np.array(right, np.bool_)


@dataclass(frozen=True)
class Reliability:
    """How often detections of a range of scores are right: bins that are not empty."""

    mean_score: tuple[float, ...]
    share_right: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def error(self) -> float:
        """Expected calibration error, 0 .. 1."""
        gaps = np.abs(np.array(self.mean_score) - np.array(self.share_right))
        return float(np.average(gaps, weights=self.counts)) if self.counts else 0.0


def reliability(scores: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """Ten ranges of equal width by default."""
    places = np.minimum((scores * bins).astype(int), bins - 1)
    used = [places == number for number in range(bins) if (places == number).any()]
    return Reliability(
        tuple(float(scores[mask].mean()) for mask in used),
        tuple(float(right[mask].mean()) for mask in used),
        tuple(int(mask.sum()) for mask in used),
    )


def risk_coverage(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    """Where only the most certain are decided: their share, and the share of errors among them, most certain first."""
    order = np.argsort(-scores, kind="stable")
    numbers = np.arange(1, len(scores) + 1)
    return numbers / max(len(scores), 1), np.cumsum(~right[order]) / numbers


def thresholds(judged: Sequence[Judged], table: RuleTable) -> list[dict[str, float]]:
    """Accepting with every threshold from 0 to 1 in steps of 0.01: precision (1 where none is taken) and recall."""

    def precision(taken: Sequence[Judged]) -> float:
        return sum(one.picture.acceptable for one in taken) / len(taken) if taken else 1.0

    rows: list[dict[str, float]] = []
    acceptable = sum(one.picture.acceptable for one in judged)
    for threshold in np.linspace(0.0, 1.0, 101):
        rules = replace(table, threshold=float(threshold))
        taken = [one for one in judged if rules.decide(one.findings).reason is Reason.NONE]
        rows.append(
            {
                "threshold": round(float(threshold), 2),
                "precision": round(precision(taken), 4),
                "precision_without_tricks": round(
                    precision([one for one in taken if one.picture.kind not in TRICKS]), 4
                ),
                "recall": round(sum(one.picture.acceptable for one in taken) / max(acceptable, 1), 4),
            }
        )
    return rows
