"""The data set's plan and the facts of a picture, without Blender: which kinds, seeds, files; what is written of each.

A data set is `DATA/{train,val,test}/{images,labels,masks,facts}/KIND_SEED.*`. A round holds each kind as often as it is
wanted, so that a set that was stopped early is balanced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from designs import SPLITS

CLASSES = ("mineral", "not_empty", "soda", "milk", "yogurt", "dishwasher", "non_mineral")
ROUND = {
    "mineral": 11,
    "not_empty": 4,
    "half": 4,
    "sip": 5,
    "soda": 3,
    "can": 2,
    "milk": 2,
    "yogurt": 2,
    "dishwasher": 2,
    "non_mineral": 2,
    "carton": 1,
    "cup": 1,
    "paper": 2,
    "phone": 1,
    "string": 1,
    "nested": 2,
    "relabelled": 2,
    "touching": 2,
    "two": 2,
    "hand": 1,
    "holding": 1,
    "nothing": 1,
}
KINDS = tuple(ROUND)
FIRST_SEED = {"train": 0, "val": 500_000, "test": 800_000}
MIN_BOX_PX = 6
CRUSHED_FROM = 0.25


@dataclass(frozen=True)
class Picture:
    """One picture of the plan: with its split it fixes every pixel."""

    split: str
    kind: str
    seed: int

    @property
    def name(self) -> str:
        """The file name without ending."""
        return f"{self.kind}_{self.seed:06d}"


def pictures(split: str, first: int, last: int) -> list[Picture]:
    """The pictures of rounds `first` to `last` - 1 of a split, kinds mixed within a round."""
    found = []
    for number in range(first, last):
        seeds = [
            Picture(split, kind, FIRST_SEED[split] + number * wanted + k)
            for kind, wanted in ROUND.items()
            for k in range(wanted)
        ]
        order = np.random.default_rng([SPLITS.index(split), number]).permutation(len(seeds))
        found += [seeds[k] for k in order]
    return found


@dataclass(frozen=True)
class CameraFacts:
    """The camera's pose in short: height above the belt, focal length, scale on the belt below it."""

    height_m: float
    focal_px: float
    pixels_per_m_on_belt: float


@dataclass(frozen=True)
class ItemFacts:
    """One item; box and fill line (the widest chord of the surface) in pixels, origin at the upper left."""

    kind: str
    model_class: str | None
    design: str
    label_design: str | None
    barcode: str | None
    box: tuple[float, float, float, float]
    length_m: float
    volume_l: float
    crush: float
    fill: float
    fill_line: tuple[tuple[float, float], tuple[float, float]] | None
    cap: bool
    tint: tuple[float, float, float]
    touching: bool

    @property
    def labelled(self) -> bool:
        """Whether the item has a class and enough of it is in the picture."""
        return self.model_class is not None and min(self.box[2] - self.box[0], self.box[3] - self.box[1]) >= MIN_BOX_PX


@dataclass(frozen=True)
class Facts:
    """What is known of a picture."""

    kind: str
    seed: int
    chamber: str
    camera: CameraFacts
    slices: tuple[str, ...]
    items: tuple[ItemFacts, ...]


def yolo_rows(items: tuple[ItemFacts, ...], width: int, height: int) -> str:
    """Class number, then centre x, centre y, width and height relative to the picture, for each labelled item."""
    rows = ""
    for item in items:
        if item.labelled and item.model_class is not None:
            x_min, y_min, x_max, y_max = item.box
            centre = f"{(x_min + x_max) / 2 / width:.5f} {(y_min + y_max) / 2 / height:.5f}"
            size = f"{(x_max - x_min) / width:.5f} {(y_max - y_min) / height:.5f}"
            rows += f"{CLASSES.index(item.model_class)} {centre} {size}\n"
    return rows


def rounded(value: object) -> object:
    """The facts with numbers as short as they are exact, for JSON."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    if isinstance(value, float):
        return round(value, 4)
    return value
