"""Rendered pictures with their masks, as the segmenter's training and the measures' evaluation read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PARTS = ("liquid", "cap", "label", "other")  # maps beside the outline; other: what is another item
FIGURES = ("crush", "fill", "cap")  # of the whole item, 0 .. 1
CAP, LABEL, LIQUID = 192, 64, 127  # a mask's blue is a cap from the first, a label from the second; its green is liquid
SMALLEST_PX = 60  # an outline of fewer pixels is not asked for


@dataclass(frozen=True)
class Scene:
    """A picture (BGR), its mask (blue: 255 cap, 128 label; green: liquid; red: number of the item) and its facts."""

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    facts: dict[str, Any]

    def outlined(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number in the mask and facts of each item of which enough is seen; a string's outline is not asked for."""
        seen = np.bincount(self.mask[:, :, 2].ravel(), minlength=256)
        for number, item in enumerate(self.facts["items"], start=1):
            if seen[number] >= SMALLEST_PX and item["kind"] != "string":
                yield number, item

    def truth(self, number: int) -> NDArray[np.bool_]:
        """The outline of an item."""
        return self.mask[:, :, 2] == number

    def parts(self, number: int) -> NDArray[np.bool_]:
        """Where an item's liquid, cap and label are seen, and other items: 4 x height x width."""
        return parts_of(self.mask, self.truth(number))


def parts_of(mask: NDArray[np.uint8], item: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Liquid, cap and label of a mask within an item's outline, and other items outside of it."""
    blue, green, red = mask[:, :, 0], mask[:, :, 1], mask[:, :, 2]
    inside = np.stack((green > LIQUID, blue >= CAP, (blue >= LABEL) & (blue < CAP))) & item
    return np.concatenate((inside, ((red > 0) & ~item)[None]))


def read(folder: Path, most: int = 0) -> list[Scene]:
    """The whole pictures of a split, or of a golden set (`index.json`), in the order of their names.

    Args:
        folder: with `facts`, `images` and `masks`, or with `index.json`.
        most: no more than so many, spread over all of them; 0 for all.

    Raises:
        ValueError: there are none, or one of their files cannot be read.
    """
    return [_read_one(*paths) for paths in _spread(_files(folder), most)]


def _files(folder: Path) -> list[tuple[Path, Path, dict[str, Any]]]:
    index = folder / "index.json"
    if index.is_file():
        rows = json.loads(index.read_text(encoding="utf-8"))
        files = [(folder / row["file"], (folder / row["file"]).with_suffix(".png"), row) for row in rows]
        found = [(image, mask, row) for image, mask, row in files if "items" in row and mask.is_file()]
    else:
        found = [
            (
                folder / "images" / f"{facts.stem}.jpg",
                folder / "masks" / f"{facts.stem}.png",
                json.loads(facts.read_text(encoding="utf-8")),
            )
            for facts in sorted((folder / "facts").glob("*.json"))
        ]
    if not found:
        raise ValueError(f"{folder} holds no pictures with masks: want facts/, images/ and masks/, or index.json")
    return found


def _spread(
    files: Sequence[tuple[Path, Path, dict[str, Any]]], most: int
) -> Iterator[tuple[Path, Path, dict[str, Any]]]:
    step = max(len(files) / most, 1.0) if most else 1.0
    for number in range(int(len(files) / step)):
        yield files[int(number * step)]


def _read_one(image_file: Path, mask_file: Path, facts: dict[str, Any]) -> Scene:
    image, mask = (cv2.imread(str(file), cv2.IMREAD_COLOR) for file in (image_file, mask_file))
    if image is None or mask is None or image.shape != mask.shape:
        raise ValueError(f"{image_file} and {mask_file} are not a picture and a mask of one size")
    return Scene(image_file.stem, image, mask, facts)
