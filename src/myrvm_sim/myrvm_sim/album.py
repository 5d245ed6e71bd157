"""The cabinet's camera: a rendered picture of what is in the chamber, with fresh sensor noise on each frame.

The pictures were rendered apart from those that the model was trained on. `index.json` lists {file, kind, model_class,
boxes}; kind `nothing` is the empty chamber.
"""

from __future__ import annotations

import json
import random
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from myrvm_core.errors import SettingsError
from numpy.typing import NDArray

from myrvm_sim.items import LOOKS_LIKE, Item, Kind

PICTURES = Path(__file__).resolve().parent / "pictures"
HEIGHT_PX, WIDTH_PX = 480, 640
NOISE_LEVELS = 2.5  # standard deviation, of 255
NOISE_SHIFT_PX = 64
UNLIT = 0.6  # what is left of the brightness while the light ring is off
DARK, BRIGHT = 0.05, 4.0  # exposure under a cover, and with a lamp shining in


@lru_cache(maxsize=8)
def load(path: Path) -> NDArray[np.uint8]:
    """A picture at the camera's size, BGR.

    Raises:
        SettingsError: it is not there or no picture.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SettingsError(f"{path} is not there or no picture")
    resized = cv2.resize(image, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


class Album:
    """Pictures by kind; which one shows an item is drawn by the item's number, so that it is the same each time."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        file = folder / "index.json"
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
            self._files: dict[str, list[str]] = {}
            for row in rows:
                self._files.setdefault(row["kind"], []).append(row["file"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{file} is no list of pictures: {error!r}") from error
        for kind, other in LOOKS_LIKE.items():
            self._files.setdefault(kind.value, self._files.get(other.value, []))
        if missing := [kind.value for kind in Kind if not self._files.get(kind.value)]:
            raise SettingsError(f"{file} has no picture of {', '.join(missing)}")

    def of(self, item: Item | None) -> Path:
        """The picture of an item in the chamber; the empty chamber for None."""
        if item is None:
            return self._folder / self._files[Kind.NOTHING.value][0]
        if item.picture:
            return Path(item.picture)
        return self._folder / random.Random(f"{self._seed} {item.number}").choice(self._files[item.kind.value])

    def kind_of(self, picture: Path) -> Kind | None:
        """The kind that a picture of this album shows; None for any other."""
        if picture.resolve().parent == self._folder.resolve():
            for kind, files in self._files.items():
                if picture.name in files and kind in list(Kind):
                    return Kind(kind)
        return None


class Sensor:
    """Adds noise; used by one thread at a time."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        shape = (HEIGHT_PX + NOISE_SHIFT_PX, WIDTH_PX + NOISE_SHIFT_PX, 3)
        self._noise = np.clip(np.rint(generator.normal(0.0, NOISE_LEVELS, shape)), -127, 127).astype(np.int8)
        self._random = random.Random(seed)
        self._last: NDArray[np.uint8] | None = None

    def expose(self, image: NDArray[np.uint8], state: str, lit: bool = True) -> NDArray[np.uint8]:
        """One frame of `image`, with light or without; `state` is one of `protocol.Camera`, not `unplugged`."""
        if state == "frozen" and self._last is not None:
            return self._last
        if state == "black":
            return np.zeros_like(image)
        if not lit:
            image = np.asarray(cv2.convertScaleAbs(image, alpha=UNLIT), np.uint8)
        if state in ("dark", "overexposed"):
            image = np.asarray(cv2.convertScaleAbs(image, alpha=DARK if state == "dark" else BRIGHT), np.uint8)
        row, column = self._random.randrange(NOISE_SHIFT_PX), self._random.randrange(NOISE_SHIFT_PX)
        noise = self._noise[row : row + HEIGHT_PX, column : column + WIDTH_PX]
        self._last = np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)
        return self._last
