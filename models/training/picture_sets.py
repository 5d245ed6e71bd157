"""Pictures and what is in them, as training, calibration and evaluation read them.

Folders that are understood: a split of the rendered data (`images/`, `labels/`, `facts/`), a flat folder with
`index.json` (a list of facts with `file`, or the simulated cabinet's list of boxes), a YOLO folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES: tuple[str, ...] = ("mineral", "not_empty", "soda", "milk", "yogurt", "dishwasher", "non_mineral")
PHOTOGRAPH = "photograph"  # kind of a picture that was not rendered
TRICKS = frozenset({"string", "holding", "nested", "paper", "phone", "relabelled"})  # the evidence is to catch these
ACCEPTED, NOT_EMPTY = "mineral", "not_empty"
SUFFIXES = (".jpg", ".jpeg", ".png")
LABELLED_FROM_PX = 6  # of what is smaller in the picture too little is seen to tell what it is

Sides = tuple[float, float, float, float]  # x_min, y_min, x_max, y_max, px


@dataclass(frozen=True)
class Item:
    """One thing in a picture; without a class it is nothing that the network names, or cannot be told."""

    model_class: str | None
    box: Sides


@dataclass(frozen=True)
class Picture:
    """A picture's file, what it shows, and the slices of the data that it belongs to."""

    file: Path
    kind: str
    items: tuple[Item, ...]
    slices: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the items that have one."""
        return tuple(item.model_class for item in self.items if item.model_class is not None)

    @property
    def acceptable(self) -> bool:
        """Whether a machine should accept what lies there: one empty water bottle and nothing else."""
        return self.kind not in TRICKS and len(self.items) == 1 and self.classes == (ACCEPTED,)


def read(folder: Path) -> list[Picture]:
    """The pictures of a folder, in the order of their names or of the index.

    Raises:
        ValueError: it holds no pictures in a form that is understood.
    """
    if (folder / "index.json").is_file():
        entries = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        return [_from_facts(folder / entry["file"], entry) for entry in entries]
    pictures = [_read_one(file, folder) for file in images_of(folder)]
    if not pictures:
        raise ValueError(f"{folder} holds no pictures: want index.json, or images/ with labels/")
    return pictures


def images_of(folder: Path) -> list[Path]:
    """Pictures of `images/` that are whole: one that is just being rendered lacks its facts or its labels yet."""
    found = sorted(file for file in (folder / "images").glob("*") if file.suffix in SUFFIXES)
    last = ("facts", ".json") if (folder / "facts").is_dir() else ("labels", ".txt")
    return [file for file in found if (folder / last[0] / f"{file.stem}{last[1]}").is_file()]


def _read_one(file: Path, folder: Path) -> Picture:
    facts = folder / "facts" / f"{file.stem}.json"
    if facts.is_file():
        return _from_facts(file, json.loads(facts.read_text(encoding="utf-8")))
    height, width = size_of(file)
    rows = read_rows(folder / "labels" / f"{file.stem}.txt")
    items = tuple(Item(CLASSES[number], to_sides(row, width, height)) for number, *row in rows)
    return Picture(file, PHOTOGRAPH, items)


def _from_facts(file: Path, facts: dict[str, Any]) -> Picture:
    if "items" in facts:
        found = [Item(item["model_class"], _sides(item["box"])) for item in facts["items"]]
        items = tuple(Item(item.model_class if _seen(item) else None, item.box) for item in found)
    else:  # the simulated cabinet's index
        items = tuple(
            Item(box["class"], (box["x_min"], box["y_min"], box["x_max"], box["y_max"])) for box in facts["boxes"]
        )
    return Picture(file, facts["kind"], items, tuple(facts.get("slices", ())))


def _sides(values: Sequence[float]) -> Sides:
    x_min, y_min, x_max, y_max = (float(value) for value in values)
    return x_min, y_min, x_max, y_max


def _seen(item: Item) -> bool:
    x_min, y_min, x_max, y_max = item.box
    return min(x_max - x_min, y_max - y_min) >= LABELLED_FROM_PX


def size_of(file: Path) -> tuple[int, int]:
    """Height and width of a picture, px.

    Raises:
        ValueError: it is none.
    """
    image = load(file)
    return image.shape[0], image.shape[1]


def load(file: Path) -> NDArray[np.uint8]:
    """A picture: height x width x 3, BGR.

    Raises:
        ValueError: it is none.
    """
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{file} is not a picture")
    return np.asarray(image, np.uint8)


def read_rows(file: Path, classes: int = len(CLASSES)) -> list[tuple[int, float, float, float, float]]:
    """The rows of a YOLO label file: class number, then centre x, centre y, width, height, relative; none without it.

    Raises:
        ValueError: names the file and the row that is none.
    """
    rows: list[tuple[int, float, float, float, float]] = []
    for number, line in enumerate(file.read_text().splitlines() if file.is_file() else [], start=1):
        try:
            name, x, y, width, height = line.split()
            rows.append((int(name), float(x), float(y), float(width), float(height)))
        except ValueError:
            raise ValueError(f"{file}: row {number} = {line!r} is not allowed: class and four numbers") from None
        if not 0 <= rows[-1][0] < classes:
            raise ValueError(f"{file}: row {number}: class {name} is not allowed: 0 .. {classes - 1}")
    return rows


def to_sides(row: Sequence[float], width: int, height: int) -> Sides:
    """From centre and size, relative, to sides in px."""
    x, y, w, h = row
    return (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height


def to_row(name: str, sides: Sides, width: int, height: int) -> str:
    """A row of a YOLO label file."""
    x_min, y_min, x_max, y_max = sides
    return (
        f"{CLASSES.index(name)} {(x_min + x_max) / 2 / width:.5f} {(y_min + y_max) / 2 / height:.5f} "
        f"{(x_max - x_min) / width:.5f} {(y_max - y_min) / height:.5f}\n"
    )
