"""The golden pictures: what a model finds in them proves that it works here before it serves.

A model that has figures (`golden` of its entry in the manifest, written when it was made) must give them again, within
a tolerance: an engine that loads and detects nothing, or something else, does not. A model without figures must find
a quarter of what is in the pictures (`index.json` says what that is).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from myrvm_core.errors import ModelError
from myrvm_core.rules import overlap
from myrvm_core.verdict import Box, Detection
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from myrvm_vision.engine import Engine

FOLDER = "golden"  # in the folder of models
INDEX = "index.json"
PICTURES = 8  # that a model proves itself on: as few as show each class, since the machine waits for it
COMPARED_FROM = 0.4  # score; weaker boxes come and go with the last place of a sum
SAME_BOX = 0.7  # overlap of the same box by the same model
FOUND_BOX = 0.5  # overlap of a box with what it shows
FOUND_SHARE = 0.25  # of what is in the pictures, that a model without figures must find: it is to see, not to be good

Row = tuple[str, float, float, float, float, float]  # class, score, x_min, y_min, x_max, y_max (px)


class GoldenFigures(BaseModel):
    """What a model found when it was made: rows by picture; scores may differ by `tolerance`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerance: float = Field(default=0.05, gt=0.0, le=0.3)
    pictures: dict[str, tuple[Row, ...]] = Field(min_length=1)


@dataclass(frozen=True)
class Proof:
    """How a model proved itself."""

    pictures: int
    boxes: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.boxes} boxes in {self.pictures} golden pictures, {self.seconds:.2f} s"


def measure(engine: Engine, folder: Path, tolerance: float = 0.05) -> GoldenFigures:
    """The figures of a model, from an engine that is trusted.

    Args:
        engine: loaded.
        folder: of the golden pictures.
        tolerance: of the scores, by which another engine may differ.

    Raises:
        ModelError: there are no golden pictures, the engine fails, or finds nothing in all of them.
    """
    found = {entry["file"]: engine.infer(_picture(folder, entry["file"])).detections for entry in _chosen(folder)}
    rows = {name: tuple(map(_row, detections)) for name, detections in found.items()}
    if not any(_compared(rows[name]) for name in rows):
        raise ModelError(f"nothing is found in the {len(rows)} golden pictures of {folder}")
    return GoldenFigures(tolerance=tolerance, pictures=rows)


def prove(engine: Engine, figures: GoldenFigures, folder: Path, score: float) -> Proof:
    """Hold a model to its figures.

    Args:
        engine: loaded.
        figures: to give again.
        folder: of the golden pictures.
        score: under which this engine drops detections.

    Raises:
        ModelError: it gives others; the first box that differs.
    """
    begun, boxes = perf_counter(), 0
    least = max(COMPARED_FROM, score) + figures.tolerance
    for name, expected in figures.pictures.items():
        found = tuple(map(_row, engine.infer(_picture(folder, name)).detections))
        for these, those in ((expected, found), (found, expected)):
            for row in _compared(these, least):
                if not any(_same(row, other, figures.tolerance) for other in those):
                    word = "is expected and not found" if these is expected else "is found and not expected"
                    raise ModelError(f"golden picture {name}: {row[0]} {row[1]:.2f} {word} ({_nearest(row, those)})")
        boxes += len(_compared(expected, least))
    return Proof(len(figures.pictures), boxes, perf_counter() - begun)


def find_items(engine: Engine, folder: Path) -> Proof:
    """Hold a model without figures to what is in the pictures.

    Args:
        engine: loaded, its classes called as ours.
        folder: of the golden pictures.

    Raises:
        ModelError: it finds less than a quarter, or knows none of the classes that are there.
    """
    begun, known = perf_counter(), engine.describe().class_names
    chosen, there, found = _chosen(folder), 0, 0
    for entry in chosen:
        items = [item for item in entry["items"] if item["model_class"] in known]
        detections = engine.infer(_picture(folder, entry["file"])).detections
        there += len(items)
        found += sum(_is_found(item, detections) for item in items)
    if not there:
        raise ModelError(f"the golden pictures show nothing of what it knows: {', '.join(known)}")
    if found < FOUND_SHARE * there:
        asked = f"{FOUND_SHARE:.0%} are needed"
        raise ModelError(f"finds {found} of {there} items in {len(chosen)} golden pictures, {asked}")
    return Proof(len(chosen), found, perf_counter() - begun)


def _chosen(folder: Path) -> Sequence[dict[str, Any]]:
    """Facts of a few pictures, evenly out of all."""
    file = folder / INDEX
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        for entry in entries:
            _ = entry["file"], [(item["model_class"], item["box"]) for item in entry["items"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}, which says what the golden pictures show, cannot be read: {error}") from error
    if not entries:
        raise ModelError(f"{file} names no golden picture")
    count = min(PICTURES, len(entries))
    return [entries[number * len(entries) // count] for number in range(count)]


def _picture(folder: Path, name: str) -> NDArray[np.uint8]:
    picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
    if picture is None:
        raise ModelError(f"golden picture {folder / name} cannot be read")
    return np.asarray(picture, np.uint8)


def _row(one: Detection) -> Row:
    box = one.box
    sides = (round(side, 1) for side in (box.x_min, box.y_min, box.x_max, box.y_max))
    return (one.class_name, round(one.score, 4), *sides)  # pyright: ignore[reportReturnType]


def _compared(rows: Iterable[Row], least: float = COMPARED_FROM) -> list[Row]:
    return [row for row in rows if row[1] >= least]


def _same(row: Row, other: Row, tolerance: float) -> bool:
    near = abs(row[1] - other[1]) <= tolerance
    return row[0] == other[0] and near and overlap(Box(*row[2:]), Box(*other[2:])) >= SAME_BOX


def _nearest(row: Row, others: Sequence[Row]) -> str:
    best = max(others, key=lambda other: overlap(Box(*row[2:]), Box(*other[2:])), default=None)
    return f"nearest: {best[0]} {best[1]:.2f}" if best else "nothing at all there"


def _is_found(item: dict[str, Any], detections: Iterable[Detection]) -> bool:
    box = Box(*map(float, item["box"]))
    return any(one.class_name == item["model_class"] and overlap(one.box, box) >= FOUND_BOX for one in detections)
