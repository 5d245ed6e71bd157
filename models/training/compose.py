"""Rendered items cut out by their masks onto photographs and made-up backgrounds, for training; no rendering.

python models/training/compose.py --data DATA --photographs ../shared/data/photos --count 600
Writes DATA/composites/{images,labels}. The same seed gives the same pictures; those that exist are kept.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import photographs
import picture_sets
from numpy.random import Generator
from numpy.typing import NDArray
from picture_sets import Picture, Sides

SIZE_PX = 320
UPRIGHT = 0.8  # share of pictures on a photograph that are so, as those are; of the others half
FEATHER_PX = 1.0
HIDDEN = 0.4  # two things that cover more than this share of each other are not put together
LEAST_PX = 12
LEAST_SEEN = 0.3  # share of an object that must be in the picture for a label
ON_PHOTOGRAPH = 0.6  # share of composites; the others lie on a made-up background
ALONE = 0.35  # share of photographs that get no item: cropped, turned and coloured only

Image = NDArray[np.uint8]
Label = tuple[str, Sides]


@dataclass(frozen=True)
class CutOut:
    """An item of a render: its picture (BGR) and how opaque each pixel is (0 .. 1), tightly cut."""

    name: str
    image: Image
    alpha: NDArray[np.float32]


def cut_outs(render: Path) -> list[CutOut]:
    """The items of a render that have a class and are wholly in the picture.

    Args:
        render: of `images/`; `masks/` and `facts/` are beside.
    """
    folder = render.parent.parent
    facts = json.loads((folder / "facts" / f"{render.stem}.json").read_text())
    image = picture_sets.load(render)
    mask = picture_sets.load(folder / "masks" / f"{render.stem}.png")[..., 2]
    found: list[CutOut] = []
    for number, item in enumerate(facts["items"], start=1):
        inside = (mask == number).astype(np.uint8)
        if item["model_class"] is None or not inside.any():
            continue
        x, y, width, height = cv2.boundingRect(inside)
        touches_edge = x == 0 or y == 0 or x + width == mask.shape[1] or y + height == mask.shape[0]
        if touches_edge or min(width, height) < LEAST_PX:
            continue
        part = (slice(y, y + height), slice(x, x + width))
        found.append(CutOut(item["model_class"], image[part], inside[part].astype(np.float32)))
    return found


def turned(item: CutOut, longest_px: float, angle_deg: float) -> CutOut:
    """The item scaled to a length and rotated, still tightly cut."""
    height, width = item.alpha.shape
    scale = longest_px / max(height, width)
    radians = np.deg2rad(angle_deg)
    out_width = int(np.ceil(scale * (abs(width * np.cos(radians)) + abs(height * np.sin(radians))))) + 2
    out_height = int(np.ceil(scale * (abs(width * np.sin(radians)) + abs(height * np.cos(radians))))) + 2
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle_deg, scale)
    matrix[:, 2] += (out_width / 2 - width / 2, out_height / 2 - height / 2)
    flags = cv2.INTER_LINEAR if scale > 0.6 else cv2.INTER_AREA
    image = cv2.warpAffine(item.image, matrix, (out_width, out_height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(item.alpha, matrix, (out_width, out_height), flags=cv2.INTER_LINEAR)
    x, y, w, h = cv2.boundingRect((alpha > 0.5).astype(np.uint8))
    part = (slice(y, y + h), slice(x, x + w))
    return CutOut(item.name, np.asarray(image[part], np.uint8), np.asarray(alpha[part], np.float32))


def coloured(rng: Generator, image: Image) -> Image:
    """Other light: brightness, contrast, a tint of the lamp."""
    gain = rng.uniform(0.6, 1.3) * rng.uniform(0.9, 1.1, 3)
    return np.clip(image * gain + rng.uniform(-20, 20), 0, 255).astype(np.uint8)


def made_up(rng: Generator, height: int, width: int) -> Image:
    """A background of noise of several grains over a gradient: table, wall, cloth."""
    ground, strength = np.zeros((height, width, 3), np.float32), rng.uniform(5.0, 60.0)
    for cells in (1, 3, 9, 40):
        grain = rng.normal(0.0, strength / cells**0.5, (cells + 1, cells + 1, 3))
        grain = grain * 0.25 + grain.mean(axis=2, keepdims=True)
        ground += cv2.resize(grain.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(ground + rng.uniform(30, 220), 0, 255).astype(np.uint8)


def cropped(rng: Generator, picture: Picture, height: int, width: int) -> tuple[Image, list[Label]]:
    """A part of a photograph in another size, perhaps mirrored, with the objects that are still wholly enough in it."""
    image = picture_sets.load(picture.file)
    full_height, full_width = image.shape[:2]
    share = rng.uniform(0.6, 1.0)
    scale = min(full_height / height, full_width / width) * share
    part_height, part_width = int(height * scale), int(width * scale)
    top, left = rng.integers(0, full_height - part_height + 1), rng.integers(0, full_width - part_width + 1)
    image = cv2.resize(
        image[top : top + part_height, left : left + part_width], (width, height), interpolation=cv2.INTER_AREA
    )
    mirrored = rng.random() < 0.5
    labels: list[Label] = []
    for item in picture.items:
        if item.model_class is None:
            continue
        sides = np.array(item.box) - np.array([left, top, left, top])
        inside = np.clip(sides, 0, [part_width, part_height] * 2) / scale
        if _area(inside) < LEAST_SEEN * _area(sides / scale):
            # What is left of it would be a bottle without a label: grey where it was.
            x_min, y_min, x_max, y_max = inside.astype(int)
            image[y_min:y_max, x_min:x_max] = image.mean(axis=(0, 1)).astype(np.uint8)
            continue
        if mirrored:
            inside[[0, 2]] = width - inside[[2, 0]]
        labels.append((item.model_class, _sides(inside)))
    return np.asarray(image[:, ::-1] if mirrored else image, np.uint8), labels


def paste(rng: Generator, ground: Image, item: CutOut) -> Sides | None:
    """Put an item somewhere on the ground, soft at its edge; gives its sides, None where it does not fit."""
    height, width = item.alpha.shape
    if height >= ground.shape[0] or width >= ground.shape[1]:
        return None
    top = int(rng.integers(0, ground.shape[0] - height))
    left = int(rng.integers(0, ground.shape[1] - width))
    alpha = cv2.GaussianBlur(item.alpha, (0, 0), FEATHER_PX)[..., None] * rng.uniform(0.8, 1.0)
    part = ground[top : top + height, left : left + width]
    part[:] = (item.image * alpha + part * (1.0 - alpha)).astype(np.uint8)
    return float(left), float(top), float(left + width), float(top + height)


def _area(sides: Any) -> float:
    return max(float(sides[2] - sides[0]), 0.0) * max(float(sides[3] - sides[1]), 0.0)


def _sides(values: NDArray[np.float64]) -> Sides:
    x_min, y_min, x_max, y_max = values.tolist()
    return x_min, y_min, x_max, y_max


def _covered(under: Sides, over: Sides) -> float:
    shared = (max(under[0], over[0]), max(under[1], over[1]), min(under[2], over[2]), min(under[3], over[3]))
    return _area(shared) / max(_area(under), 1e-9)


def compose(rng: Generator, items: list[CutOut], photos: list[Picture]) -> tuple[Image, list[Label]]:
    """One picture with its labels."""
    on_photograph = bool(photos) and rng.random() < ON_PHOTOGRAPH
    upright = rng.random() < (UPRIGHT if on_photograph else 0.5)
    shape = (SIZE_PX, SIZE_PX * 3 // 4) if upright else (SIZE_PX * 3 // 4, SIZE_PX)
    count = int(rng.choice([1, 1, 1, 2]))
    if on_photograph:
        ground, labels = cropped(rng, photos[rng.integers(len(photos))], *shape)
        count = 0 if rng.random() < ALONE else count
    else:
        ground, labels = made_up(rng, *shape), []
    ground = coloured(rng, ground)
    for _ in range(count if items else 0):
        item = items[rng.integers(len(items))]
        longest = rng.uniform(0.3, 0.95) * min(shape)
        item = turned(CutOut(item.name, coloured(rng, item.image), item.alpha), longest, rng.uniform(0.0, 360.0))
        before = ground.copy()
        sides = paste(rng, ground, item)
        if sides is None:
            continue
        if any(_covered(under, sides) > HIDDEN or _covered(sides, under) > HIDDEN for _, under in labels):
            ground = before  # two things in one place: neither label would be right
            continue
        labels.append((item.name, sides))
    if rng.random() < 0.3:
        ground = np.asarray(cv2.GaussianBlur(ground, (0, 0), rng.uniform(0.4, 1.2)), np.uint8)
    noisy = ground + rng.normal(0.0, rng.uniform(0.0, 8.0), ground.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), labels


def main() -> None:
    """Compose what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="with train/ as render.py writes it")
    parser.add_argument("--photographs", type=Path, help="folder of the photographs; those to train on are used")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0, help="number of the first picture")
    args = parser.parse_args()
    items = [item for file in sorted((args.data / "train" / "images").glob("*.jpg")) for item in cut_outs(file)]
    photos = photographs.split(args.photographs)[0] if args.photographs is not None else []
    images, labels = args.data / "composites" / "images", args.data / "composites" / "labels"
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seed, args.seed + args.count):
        label = labels / f"composite_{seed:05d}.txt"
        if label.exists():
            continue
        image, found = compose(np.random.default_rng([seed, 5]), items, photos)
        height, width = image.shape[:2]
        cv2.imwrite(str(images / f"{label.stem}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, int(85 + seed % 10)])
        label.write_text("".join(picture_sets.to_row(name, sides, width, height) for name, sides in found))
    print(f"{args.count} composites of {len(items)} items and {len(photos)} photographs in {images.parent}")


if __name__ == "__main__":
    main()
