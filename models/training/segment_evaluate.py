"""How good the outlines are, and how wrong each measure is that is taken from them, on pictures never trained on.

python models/training/segment_evaluate.py --pictures DATA/test [--segmenter models/NAME.encoder.onnx | --truth] \
  [--turned DIR]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from myrvm_core.verdict import Box, ItemMeasures
from myrvm_vision.fingerprint import ALIKE, fingerprint
from myrvm_vision.mask_measures import View, largest, profile, volume_class_l
from myrvm_vision.outline_examiner import measures_of
from myrvm_vision.segmenter import Prompt, Segment, Segmenter, SegmenterOptions, make_segmenter
from numpy.typing import NDArray
from segment_data import PARTS, Scene, read

from myrvm_core import paths
from myrvm_vision import mask_measures, segmenter_store

BOX_ERROR = 0.03  # of a detector's box, a share of its sides, one standard deviation
ROUND = ("mineral", "not_empty", "half", "sip", "soda", "milk", "can", "string")  # kinds whose volume is that of a body
WATER = ("mineral", "not_empty", "half", "sip")
WHOLE = 0.05  # crushed less than this is not crushed
TURNS = 2  # of each item for the fingerprint


@dataclass(frozen=True)
class Row:
    """One item: what is true, and what was measured."""

    scene: Scene
    number: int
    item: dict[str, Any]
    segment: Segment
    measures: ItemMeasures
    seconds: float

    @property
    def iou(self) -> float:
        """Overlap with the truth."""
        truth = self.scene.truth(self.number)
        return np.count_nonzero(self.segment.mask & truth) / np.count_nonzero(self.segment.mask | truth)

    @property
    def single(self) -> bool:
        """Whether the item lies alone, and wholly in the picture."""
        return len(self.scene.facts["items"]) == 1 and not math.isnan(self.measures.length_m)


def rows(scenes: Sequence[Scene], segmenter: Segmenter | None, seed: int = 0) -> Iterator[Row]:
    """Every item, outlined by the segmenter from a box as a detector gives it; by the truth where there is none."""
    for place, scene in enumerate(scenes):
        camera = scene.facts["camera"]
        view = View(camera["height_m"], camera["pixels_per_m_on_belt"])
        for number, item in scene.outlined():
            begun = time.perf_counter()
            if segmenter is None:
                found = true_segment(scene, number, item)
            else:
                prompt = Prompt(box=jittered(item["box"], seed + 100 * place + number))
                (found,) = segmenter.segment(segmenter.embed(scene.image), [prompt])
            seconds = time.perf_counter() - begun
            yield Row(scene, number, item, found, measures_of(scene.image, found, view), seconds)


def true_segment(scene: Scene, number: int, item: dict[str, Any]) -> Segment:
    """What a perfect segmenter would say."""
    parts = dict(zip(PARTS, scene.parts(number).astype(np.float32), strict=True))
    figures = {"crush": item["crush"], "fill": item["fill"], "cap": float(item["cap"])}
    return Segment(scene.truth(number), 1.0, 1.0, parts, figures)


def jittered(box: Sequence[float], seed: int) -> Box:
    """A box with a detector's error."""
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    return Box(*(np.array(box) + np.random.default_rng(seed).normal(0.0, BOX_ERROR, 4) * sides).tolist())


def figures_of(found: Sequence[Row]) -> dict[str, Any]:
    """The table."""
    ious = {kind: [row.iou for row in found if row.item["kind"] == kind] for kind in kinds_of(found)}
    classed = [row for row in found if row.item["model_class"] is not None]
    single = [row for row in classed if row.single]
    bodies = [row for row in single if row.item["kind"] in ROUND]
    whole = [row for row in bodies if row.item["crush"] < WHOLE]
    water = [row for row in bodies if row.item["kind"] in WATER]
    return {
        "items": len(found),
        "mean_iou": mean([row.iou for row in found]),
        "mean_iou_of_classes": mean([row.iou for row in classed]),
        "iou_below_0.8": mean([row.iou < 0.8 for row in classed]),
        "iou_by_kind": {kind: [mean(values), len(values)] for kind, values in ious.items()},
        "iou_by_slice": {
            name: mean([row.iou for row in classed if name in row.scene.facts["slices"]])
            for name in sorted({name for row in classed for name in row.scene.facts["slices"]})
        },
        "predicted_iou_error": mean([abs(row.segment.score - row.iou) for row in found]),
        "seconds_median": statistics.median(row.seconds for row in found),
        "length": relative(whole, lambda row: (row.measures.length_m, row.item["length_m"])),
        "length_crushed": relative(
            [row for row in bodies if row not in whole], lambda row: (row.measures.length_m, row.item["length_m"])
        ),
        "volume": relative(whole, lambda row: (row.measures.volume_l, row.item["volume_l"])),
        "volume_class_right": mean(
            [volume_class_l(row.measures.volume_l) == volume_class_l(row.item["volume_l"]) for row in whole]
        ),
        "crush_error": mean([abs(row.measures.crush - row.item["crush"]) for row in single]),
        "crush_auc": auc(bodies, lambda row: row.measures.crush, lambda row: row.item["crush"] > 0.25),
        "fill_error": mean([abs(row.measures.fill - row.item["fill"]) for row in water]),
        "fill_error_of_empty": mean([row.measures.fill for row in water if row.item["kind"] == "mineral"]),
        "not_empty_auc": auc(water, lambda row: row.measures.fill, lambda row: row.item["fill"] > 0.0),
        "line_across_px": line_error(water),
        "cap_right": mean([(row.measures.cap > 0.5) == row.item["cap"] for row in single]),
        "touching_found": mean([row.measures.parts > 1 for row in classed if row.item["touching"]]),
        "touching_wrongly": mean([row.measures.parts > 1 for row in single]),
        "fingerprint": fingerprints([row for row in single if row.item["label_design"]]),
    }


def kinds_of(found: Sequence[Row]) -> list[str]:
    """Of the items."""
    return sorted({row.item["kind"] for row in found})


def mean(values: Sequence[float]) -> float:
    """Rounded; NaN of none, as of what is NaN."""
    return round(float(np.mean(values)), 4) if len(values) else math.nan


def relative(found: Sequence[Row], pair: Callable[[Row], tuple[float, float]]) -> dict[str, float]:
    """Median, 90 % and bias of the relative error."""
    errors = np.array([measured / true - 1.0 for measured, true in map(pair, found)])
    if not len(errors):
        return {"items": 0}
    absolute = np.abs(errors)
    return {
        "items": len(errors),
        "median": round(float(np.median(absolute)), 4),
        "of_90_percent": round(float(np.quantile(absolute, 0.9)), 4),
        "bias": round(float(np.median(errors)), 4),
    }


def auc(found: Sequence[Row], score: Callable[[Row], float], is_so: Callable[[Row], bool]) -> float:
    """Probability that one that is so scores above one that is not (area under the ROC curve)."""
    yes = np.array([score(row) for row in found if is_so(row)])
    no = np.array([score(row) for row in found if not is_so(row)])
    if not len(yes) or not len(no):
        return math.nan
    return round(float(((yes[:, None] > no).mean() + (yes[:, None] >= no).mean()) / 2.0), 4)


def line_error(found: Sequence[Row]) -> dict[str, float]:
    """How far the ends of the liquid's surface are from the true ones across the item, px of a picture of 320.

    Along the item the widest place of a surface that is wide everywhere is anywhere: that is not counted.
    """
    errors: list[float] = []
    missed = 0
    for row in found:
        if row.item["fill_line"] is None:
            continue
        shape, line = profile(largest(row.segment.mask)), row.measures.fill_line_px
        if shape is None or not line:
            missed += 1
            continue
        ends = [
            sorted((np.array(two).reshape(2, 2) - shape.centre) @ shape.across) for two in (line, row.item["fill_line"])
        ]
        errors += [abs(a - b) * 320.0 / row.scene.image.shape[1] for a, b in zip(*ends, strict=True)]
    if not errors:
        return {"missed": missed}
    return {
        "median": round(float(np.median(errors)), 2),
        "of_90_percent": round(float(np.quantile(errors, 0.9)), 2),
        "missed": missed,
    }


def fingerprints(found: Sequence[Row]) -> dict[str, float]:
    """Cosines of an item and itself turned, in other light, against those of items with another design or label."""
    rng = np.random.default_rng(0)
    prints = [np.array(row.measures.fingerprint) for row in found]
    same = [float(one @ again) for row, one in zip(found, prints, strict=True) for again in turned(row, rng)]
    other = [
        float(prints[a] @ prints[b])
        for a in range(len(found))
        for b in range(a)
        if design(found[a]) != design(found[b])
    ]
    if not same or not other:
        return {"items": len(found)}
    above = np.array(same)[:, None] > np.array(other)
    return {
        "items": len(found),
        "pairs_of_others": len(other),
        "auc": round(float(above.mean()), 5),
        "same_missed": round(float(np.mean(np.array(same) < ALIKE)), 5),
        "others_alike": round(float(np.mean(np.array(other) >= ALIKE)), 5),
        "same_least": round(min(same), 4),
        "others_most": round(max(other), 4),
    }


def turned_renders(found: Sequence[Row], others: Sequence[Row]) -> dict[str, Any]:
    """Cosines within the same items rendered in several poses (`segment_turned.py`), and with the likest of others."""
    prints: dict[str, list[NDArray[np.float64]]] = {}
    facts = {row.scene.name.partition("_")[0]: design(row) for row in found}
    for row in found:
        if row.measures.fingerprint:
            prints.setdefault(row.scene.name.partition("_")[0], []).append(np.array(row.measures.fingerprint))
    same = [float(a @ b) for poses in prints.values() for place, a in enumerate(poses) for b in poses[:place]]
    known = [(design(row), np.array(row.measures.fingerprint)) for row in others if row.measures.fingerprint]
    likest = [
        max(float(poses[0] @ other) for name, other in known if name != facts[item]) for item, poses in prints.items()
    ]
    return {
        "items": len(prints),
        "pairs": len(same),
        "same_missed": mean([cosine < ALIKE for cosine in same]),
        "same_least": round(min(same), 4),
        "others": len(known),
        "items_with_an_alike_other": mean([cosine >= ALIKE for cosine in likest]),
        "others_most": round(max(likest), 4),
    }


def design(row: Row) -> tuple[str, str]:
    """Form and label."""
    return row.item["design"], row.item["label_design"]


def turned(row: Row, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Fingerprints of the same item, turned by any angle, moved, in other light, outlined with small errors."""
    image, mask = row.scene.image, largest(row.segment.mask)
    height, width = mask.shape
    for _ in range(TURNS):
        rows_, columns = np.nonzero(mask)
        middle = (float(columns.mean()), float(rows_.mean()))
        matrix = cv2.getRotationMatrix2D(middle, rng.uniform(0.0, 360.0), 1.0)
        matrix[:, 2] += np.array([width / 2, height / 2]) + rng.normal(0.0, 0.02 * width, 2) - middle
        again = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT).astype(np.float64)
        again = again * math.exp(rng.normal(0.0, 0.05)) + rng.normal(0.0, 3.0, again.shape)
        outline = cv2.warpAffine(mask.astype(np.uint8), matrix, (width, height))
        outline = (cv2.dilate if rng.random() < 0.5 else cv2.erode)(outline, np.ones((2, 2), np.uint8)) > 0
        shape = profile(outline)
        if shape is not None and not mask_measures.is_cut(outline):
            yield np.array(fingerprint(np.clip(again, 0, 255).astype(np.uint8), outline, shape))


def evaluate(pictures: Path, segmenter: Segmenter | None, most: int = 0) -> dict[str, Any]:
    """The table for the pictures of a folder."""
    return {"pictures": str(pictures.name), **figures_of(list(rows(read(pictures, most), segmenter)))}


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, action="append", help="[models/golden]")
    parser.add_argument("--segmenter", default=segmenter_store.DEFAULT, help="name or file [the default that ships]")
    parser.add_argument("--truth", action="store_true", help="measure the renderer's outlines: errors of the measures")
    parser.add_argument("--turned", type=Path, help="folder of segment_turned.py, for the fingerprint")
    parser.add_argument("--most", type=int, default=0, help="pictures of each folder [all]")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    segmenter = None
    if not args.truth:
        file = segmenter_store.find(paths.home() / "models", args.segmenter)
        segmenter = make_segmenter(file, SegmenterOptions(threads=args.threads, trusted_folder=file.parent))
        segmenter.load()
    for folder in args.pictures or [paths.home() / "models" / "golden"]:
        table = evaluate(folder, segmenter, args.most)
        if args.turned is not None:
            others = list(rows(read(folder, args.most), segmenter))
            table["turned"] = turned_renders(list(rows(read(args.turned), segmenter)), others)
        print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
