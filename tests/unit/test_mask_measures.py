"""Measures of outlines that are drawn here, where every answer is known; and the examiner that takes them."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from myrvm_core.errors import ModelError
from myrvm_core.verdict import Box, ItemMeasures, Outcome, Reason, Verdict
from myrvm_vision.examination import Frame
from myrvm_vision.fingerprint import ALIKE, fingerprint
from myrvm_vision.mask_measures import View
from myrvm_vision.outline_examiner import OutlineExaminer, draw, measures_of, view_of, words
from myrvm_vision.segmenter import Embedding, OverdueError, Prompt, Segment, SegmenterDescription
from myrvm_vision.settings import OutlineSettings
from numpy.typing import NDArray

from myrvm_vision import mask_measures, segmenter_store

VIEW = View(height_m=0.5, pixels_per_m=800.0)
SHAPE = (240, 320)

turns = st.floats(0.0, 360.0)


def bottle(
    turn: float = 0.0, length_px: float = 160.0, width_px: float = 50.0, middle: tuple[float, float] = (160.0, 120.0)
) -> NDArray[np.bool_]:
    """A body with a shoulder and a neck, drawn eight times finer than a pixel."""
    half = width_px / 2
    form = [(-0.5, -half), (0.2, -half), (0.35, -half / 3), (0.5, -half / 3)]
    form += [(x, -y) for x, y in reversed(form)]
    points = np.array([(x * length_px, y) for x, y in form])
    angle = math.radians(turn)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = np.round((points @ rotation.T + middle) * 8).astype(np.int32)
    fine = np.zeros((SHAPE[0] * 8, SHAPE[1] * 8), np.uint8)
    cv2.fillPoly(fine, [corners], 1)
    return cv2.resize(fine.astype(np.float32), SHAPE[::-1], interpolation=cv2.INTER_AREA) > 0.5


def profile(mask: NDArray[np.bool_]) -> mask_measures.Profile:
    found = mask_measures.profile(mask)
    assert found is not None
    return found


@given(turns, st.floats(80.0, 180.0), st.floats(24.0, 70.0))
@settings(max_examples=40)
def test_length_and_width_of_a_bottle_however_it_lies(turn: float, length_px: float, width_px: float) -> None:
    assume(width_px < 0.6 * length_px)
    shape = profile(bottle(turn, length_px, width_px))
    assert shape.length_px == pytest.approx(length_px, abs=2.0)
    assert shape.width_px == pytest.approx(width_px, abs=2.5)


def test_what_lies_higher_looks_larger() -> None:
    # The edges of a tube of 80 mm are 40 mm above the belt and seen from 460 mm: as 80 * 500 / 460 mm on the belt.
    assert VIEW.thickness_m(0.080 * 500 / 460 * 800) == pytest.approx(0.080)
    assert VIEW.to_m(0.2 * 500 / 440 * 800, above_m=0.06) == pytest.approx(0.2)


@given(turns)
@settings(max_examples=10)
def test_volume_is_that_of_the_turned_body(turn: float) -> None:
    shape = profile(bottle(turn))
    length, width = mask_measures.size_m(shape, VIEW)
    body = math.pi / 4 * width**2 * length * (0.7 + 0.15 * (1 + 1 / 3 + 1 / 9) / 3 + 0.15 / 9) * 1000.0
    assert mask_measures.volume_l(shape, VIEW) == pytest.approx(body * mask_measures.VOLUME_FACTOR, rel=0.06)


def test_volumes_are_sold_in_steps() -> None:
    assert [mask_measures.volume_class_l(volume) for volume in (0.0, 0.31, 0.44, 0.6, 1.4, 9.0)] == [
        0.2, 0.33, 0.5, 0.5, 1.5, 2.0,
    ]  # fmt: skip


def bent(mask: NDArray[np.bool_], px: float) -> NDArray[np.bool_]:
    """The same with its middle swaying to both sides, so far."""
    columns = np.arange(SHAPE[1])
    shift = np.round(px * np.sin((columns - 80) / 80 * math.pi)).astype(int)
    return np.stack([np.roll(mask[:, column], -shift[column]) for column in columns], axis=1)


def test_the_more_an_outline_is_bent_the_more_it_is_crushed() -> None:
    degrees = [mask_measures.crush(profile(bent(bottle(), px))) for px in (0.0, 4.0, 8.0, 14.0)]
    assert degrees[0] == 0.0
    assert degrees == sorted(degrees)
    assert degrees[-1] > 0.3
    assert all(mask_measures.crush(profile(bottle(turn))) < 0.05 for turn in range(0, 180, 15))


@given(turns)
@settings(max_examples=10)
def test_the_liquid_line_lies_across_where_it_is_widest(turn: float) -> None:
    mask = bottle(turn)
    shape = profile(mask)
    rows, columns = np.indices(SHAPE)
    along = (columns - 160.0) * math.cos(math.radians(turn)) + (rows - 120.0) * math.sin(math.radians(turn))
    liquid = (mask & (along > 0.0)).astype(np.float32)  # from the middle to the neck: widest on the body
    line = mask_measures.fill_line(shape, mask, liquid)
    assert line is not None
    assert math.dist(line[:2], line[2:]) == pytest.approx(50.0, abs=3.0)
    middle = ((line[0] + line[2]) / 2 - 160.0, (line[1] + line[3]) / 2 - 120.0)
    along_line = middle[0] * math.cos(math.radians(turn)) + middle[1] * math.sin(math.radians(turn))
    assert 0.0 <= along_line <= 40.0
    assert mask_measures.fill(mask, liquid) == pytest.approx(0.40, abs=0.02)
    assert mask_measures.fill_line(shape, mask, np.zeros(SHAPE, np.float32)) is None


def test_another_item_at_the_outline_is_counted_and_one_apart_is_not() -> None:
    mask = bottle(middle=(160.0, 90.0))
    touching, apart = bottle(middle=(160.0, 142.0)), bottle(middle=(160.0, 180.0))
    assert mask_measures.parts(mask, touching.astype(np.float32)) == 2
    assert mask_measures.parts(mask, apart.astype(np.float32)) == 1
    crumb = np.zeros(SHAPE, np.float32)
    crumb[116:120, 150:154] = 1.0
    assert mask_measures.parts(mask, crumb) == 1


def test_what_reaches_out_of_the_picture_is_cut() -> None:
    assert not mask_measures.is_cut(bottle())
    assert mask_measures.is_cut(bottle(middle=(250.0, 120.0)))


def test_of_nothing_there_is_no_profile() -> None:
    assert mask_measures.profile(np.zeros(SHAPE, np.bool_)) is None


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_any_mask_has_figures_or_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    small = rng.random((12, 16)) < rng.random()
    mask = cv2.resize(small.astype(np.uint8), SHAPE[::-1], interpolation=cv2.INTER_NEAREST) > 0
    measures = measures_of(np.zeros((*SHAPE, 3), np.uint8), Segment(mask, 1.0, 1.0), VIEW)
    assert len(measures.outline_px) <= 256
    assert measures.skipped or math.isnan(measures.length_m) or measures.length_m >= measures.width_m * 0.5


# Fingerprints


def painted(mask: NDArray[np.bool_], turn: float, label: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A bottle on a grey belt with a label around its middle."""
    rows, columns = np.indices(SHAPE)
    along = (columns - 160.0) * math.cos(math.radians(turn)) + (rows - 120.0) * math.sin(math.radians(turn))
    image = np.full((*SHAPE, 3), 90, np.uint8)
    image[mask] = (170, 180, 170)
    image[mask & (np.abs(along + 20) < 22)] = label
    return image


@given(turns, turns)
@settings(max_examples=20)
def test_the_same_item_turned_has_the_same_fingerprint_and_another_label_has_not(first: float, second: float) -> None:
    prints = []
    for turn, label in ((first, (160, 60, 30)), (second, (160, 60, 30)), (second, (40, 40, 190))):
        mask = bottle(turn)
        prints.append(np.array(fingerprint(painted(mask, turn, label), mask, profile(mask))))
    assert len(prints[0]) <= 64
    assert float(prints[0] @ prints[0]) == pytest.approx(1.0)
    assert float(prints[0] @ prints[1]) > ALIKE > float(prints[0] @ prints[2])


# The examiner


class DrawnSegmenter:
    """A stand-in for a network: it answers with what a test drew."""

    def __init__(self, segment: Segment, fails: ModelError | None = None) -> None:
        self._segment, self._fails = segment, fails
        self.prompts: list[Prompt] = []
        self.pictures = 0
        self.closed = False

    def load(self) -> None: ...

    def embed(self, image: NDArray[np.uint8], deadline_s: float = math.inf) -> Embedding:
        self.pictures += 1
        if self._fails is not None:
            raise self._fails
        return Embedding(image.shape[0], image.shape[1], image)

    def segment(
        self, embedding: Embedding, prompts: Sequence[Prompt], deadline_s: float = math.inf
    ) -> tuple[Segment, ...]:
        self.prompts += prompts
        return tuple(self._segment for _ in prompts)

    def describe(self) -> SegmenterDescription:
        return SegmenterDescription("drawn", 1)

    def close(self) -> None:
        self.closed = True


MEASURED = OutlineSettings(camera_height_m=0.5, view_width_m=0.4)
ACCEPTED = Verdict(Outcome.ACCEPTED, Reason.NONE, "mineral", 0.9)


def segment(**figures: float) -> Segment:
    mask = bottle()
    liquid = np.where(mask & (np.indices(SHAPE)[1] < 120), 0.9, 0.0).astype(np.float32)
    return Segment(mask, 0.9, 0.95, {"liquid": liquid, "other": np.zeros(SHAPE, np.float32)}, figures)


def frame(stamp_ns: int = 1) -> Frame:
    return Frame(painted(bottle(), 0.0, (160, 60, 30)), Box(75.0, 90.0, 245.0, 150.0), stamp_ns)


def test_a_verdict_takes_the_measures_of_the_newest_frame() -> None:
    segmenter = DrawnSegmenter(segment(fill=0.4))
    examiner = OutlineExaminer(segmenter, MEASURED)
    verdict = examiner.examine([frame(2), frame(1)], ACCEPTED, time.monotonic() + 60.0)
    measures = verdict.measures
    assert verdict.outcome is Outcome.ACCEPTED
    assert segmenter.pictures == 1
    assert segmenter.prompts == [Prompt(box=frame().box)]
    assert (measures.crush, measures.parts) == (0.0, 1)
    assert measures.mask_score == 0.95
    assert measures.length_m == pytest.approx(0.16 / 0.8, rel=0.1)
    assert measures.length_m / measures.width_m == pytest.approx(3.2, rel=0.1)
    assert len(measures.fill_line_px) == 4
    assert 8 <= len(measures.outline_px) <= 256
    assert 0 < len(measures.fingerprint) <= 64
    assert not measures.skipped
    examiner.close()
    assert segmenter.closed


def test_several_boxes_of_a_picture_are_seen_once() -> None:
    segmenter = DrawnSegmenter(segment())
    boxes = [frame().box, Box(0.0, 0.0, 50.0, 50.0)]
    assert len(OutlineExaminer(segmenter, MEASURED).measure(frame().image, boxes, math.inf)) == 2
    assert segmenter.pictures == 1


@pytest.mark.parametrize("fails", [OverdueError("was stopped at its deadline"), ModelError("broke")])
def test_a_segmenter_that_fails_or_is_late_is_the_reason_and_turns_no_verdict(fails: ModelError) -> None:
    verdict = OutlineExaminer(DrawnSegmenter(segment(), fails), MEASURED).examine([frame()], ACCEPTED, math.inf)
    assert verdict.measures.skipped == str(fails)
    assert math.isnan(verdict.measures.length_m)
    assert verdict.outcome is Outcome.ACCEPTED


def test_without_a_measured_camera_there_are_no_lengths() -> None:
    assert view_of(OutlineSettings(camera_height_m=0.5), 320) is None
    measures = measures_of(frame().image, segment(), None)
    assert math.isnan(measures.length_m)
    assert measures.fingerprint


def test_of_a_cut_item_no_size_is_said() -> None:
    mask = bottle(middle=(250.0, 120.0))
    measures = measures_of(frame().image, Segment(mask, 1.0, 1.0, figures={"fill": 0.2}), VIEW)
    assert math.isnan(measures.length_m)
    assert not measures.fingerprint
    assert measures.fill == 0.2
    assert measures.outline_px


def test_an_empty_mask_is_a_reason() -> None:
    empty = Segment(np.zeros(SHAPE, np.bool_), 0.1, 0.0)
    assert measures_of(frame().image, empty, VIEW).skipped == "nothing is outlined in the box"


def test_outline_and_line_are_drawn_where_they_are() -> None:
    picture = frame().image.copy()
    draw(picture, measures_of(frame().image, segment(), VIEW))
    changed = (picture != frame().image).any(2)
    assert changed[bottle()].mean() > 0.95
    assert changed[:60].sum() == 0
    before = picture.copy()
    draw(picture, ItemMeasures(skipped="no"))
    assert (picture == before).all()


def test_words_say_only_what_is_known() -> None:
    assert words(ItemMeasures()) == ""
    assert words(ItemMeasures(length_m=0.2, volume_l=0.5, fill=0.3)) == "200 mm 0.50 l fill 0.30"


# The segmenters that ship


def test_a_segmenter_is_found_by_name_and_its_files_are_checked(tmp_path: Path) -> None:
    for name in ("a.encoder.onnx", "a.decoder.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    files = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.encoder.onnx", "a.decoder.onnx")}
    entry = {"name": "a", "version": "1", "files": files, "origin": "here"}
    (tmp_path / "segmenters.json").write_text(json.dumps({"default": "a", "segmenters": [entry]}))
    assert (
        segmenter_store.find(tmp_path, "default") == segmenter_store.find(tmp_path, "a") == tmp_path / "a.encoder.onnx"
    )
    assert segmenter_store.find(tmp_path, str(tmp_path / "a.decoder.onnx")) == tmp_path / "a.decoder.onnx"
    with pytest.raises(ModelError, match="allowed: default, a"):
        segmenter_store.find(tmp_path, "b")
    (tmp_path / "a.decoder.onnx").write_bytes(b"exchanged")
    with pytest.raises(ModelError, match="damaged or exchanged"):
        segmenter_store.find(tmp_path, "a")
    (tmp_path / "segmenters.json").write_text("{}")
    with pytest.raises(ModelError, match="default"):
        segmenter_store.find(tmp_path, "a")
