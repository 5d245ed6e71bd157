"""The examiner of outlines: what the segmenter sees in the item's box, and what that measures. No ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

import cv2
import numpy as np
from myrvm_core.errors import ModelError
from myrvm_core.verdict import Box, ItemMeasures, Verdict
from numpy.typing import NDArray

from myrvm_core import paths
from myrvm_vision import fingerprint, mask_measures, segmenter_store
from myrvm_vision.examination import Frame
from myrvm_vision.mask_measures import View
from myrvm_vision.segmenter import Prompt, Segment, Segmenter, SegmenterOptions, make_segmenter
from myrvm_vision.settings import DetectorSettings, OutlineSettings

SHARE = 0.6  # of the time that is left: the examiners behind this one need some too
CYAN, MAGENTA = (230, 200, 40), (200, 60, 230)  # BGR: outline, surface of the liquid
COVERING = 0.25  # how much an outline's colour hides of the picture


class OutlineExaminer:
    """An `Examiner`: the outline in the newest frame that voted, and its measures.

    Args:
        segmenter: loaded.
        settings: how the camera sees the belt.
    """

    def __init__(self, segmenter: Segmenter, settings: OutlineSettings) -> None:
        self._segmenter = segmenter
        self._settings = settings

    def examine(self, frames: Sequence[Frame], verdict: Verdict, deadline_s: float) -> Verdict:
        """See `Examiner`."""
        now_s = monotonic()
        try:
            (measures,) = self.measure(frames[0].image, [frames[0].box], now_s + SHARE * (deadline_s - now_s))
        except ModelError as error:  # one that is overdue too
            return self.skip(verdict, str(error))
        return replace(verdict, measures=measures)

    def measure(self, image: NDArray[np.uint8], boxes: Sequence[Box], deadline_s: float) -> list[ItemMeasures]:
        """The items in these boxes of a picture (BGR).

        Raises:
            ModelError: the segmenter failed, or was not done by the deadline (monotonic).
        """
        begun_s = monotonic()
        seen = self._segmenter.embed(image, deadline_s)
        segments = self._segmenter.segment(seen, [Prompt(box=box) for box in boxes], deadline_s)
        view = view_of(self._settings, image.shape[1])
        found = [measures_of(image, segment, view) for segment in segments]
        return [replace(measures, duration_s=monotonic() - begun_s) for measures in found]

    def skip(self, verdict: Verdict, why: str) -> Verdict:
        """See `Examiner`."""
        return replace(verdict, measures=ItemMeasures(skipped=why))

    def close(self) -> None:
        """See `Examiner`."""
        self._segmenter.close()


def load(settings: DetectorSettings) -> list[OutlineExaminer]:
    """The examiner with the segmenter that `settings` names, warmed up; none where they name none.

    Raises:
        ModelError: no such segmenter, or it cannot be loaded.
    """
    if not settings.outline.segmenter:
        return []
    file = segmenter_store.find(paths.resolve(settings.models_dir), settings.outline.segmenter)
    trusted = paths.resolve(settings.trusted_dir) if settings.trusted_dir else None
    threads = {"threads": settings.threads} if settings.threads else {}
    segmenter = make_segmenter(file, SegmenterOptions(**threads, trusted_folder=trusted))
    segmenter.load()
    return [OutlineExaminer(segmenter, settings.outline)]


def view_of(settings: OutlineSettings, width_px: int) -> View | None:
    """How a picture of this width shows the belt, None where it was not measured."""
    if not settings.camera_height_m or not settings.view_width_m:
        return None
    return View(settings.camera_height_m, width_px / settings.view_width_m)


def measures_of(image: NDArray[np.uint8], segment: Segment, view: View | None) -> ItemMeasures:
    """All that an outline says; what cannot be known stays NaN."""
    mask = mask_measures.largest(segment.mask)
    shape = mask_measures.profile(mask)
    if shape is None:
        return ItemMeasures(mask_score=segment.stability, skipped="nothing is outlined in the box")
    measures = ItemMeasures(
        mask_score=segment.stability,
        fill=segment.figures.get("fill", math.nan),
        outline_px=_flat(segment.outline),
    )
    if "liquid" in segment.parts:
        line = mask_measures.fill_line(shape, mask, segment.parts["liquid"])
        measures = replace(measures, fill_line_px=line or ())
    if "cap" in segment.parts:
        measures = replace(measures, cap=mask_measures.cap(shape, mask, segment.parts["cap"]))
    if "other" in segment.parts:
        measures = replace(measures, parts=mask_measures.parts(mask, segment.parts["other"]))
    if mask_measures.is_cut(mask):
        return measures
    print_ = fingerprint.fingerprint(image, mask, shape)
    measures = replace(measures, fingerprint=print_, crush=mask_measures.crush(shape))
    if view is None:
        return measures
    length, width = mask_measures.size_m(shape, view)
    return replace(measures, length_m=length, width_m=width, volume_l=mask_measures.volume_l(shape, view))


def draw(picture: NDArray[np.uint8], measures: ItemMeasures) -> None:
    """Outline and surface of the liquid, into a picture (BGR)."""
    if measures.outline_px:
        outline = np.array(measures.outline_px).reshape(-1, 1, 2).round().astype(np.int32)
        covered = picture.copy()
        cv2.fillPoly(covered, [outline], CYAN)
        cv2.addWeighted(covered, COVERING, picture, 1.0 - COVERING, 0.0, dst=picture)
        cv2.polylines(picture, [outline], True, CYAN, 1, cv2.LINE_AA)
    if measures.fill_line_px:
        x, y, to_x, to_y = (round(place) for place in measures.fill_line_px)
        cv2.line(picture, (x, y), (to_x, to_y), MAGENTA, 2, cv2.LINE_AA)


def words(measures: ItemMeasures) -> str:
    """The figures that are known, for the picture."""
    known = {
        "{:.0f} mm": measures.length_m * 1000.0,
        "{:.2f} l": measures.volume_l,
        "crush {:.2f}": measures.crush,
        "fill {:.2f}": measures.fill,
        "cap {:.2f}": measures.cap,
    }
    return " ".join(text.format(value) for text, value in known.items() if not math.isnan(value))


def _flat(corners: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(float(value) for value in corners.ravel())
