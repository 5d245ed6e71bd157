"""The annotated stream: outlines of what is seen, only where somebody watches, and never a reason to fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from myrvm_core.errors import ModelError
from myrvm_core.verdict import Box, Detection, ModelInfo
from myrvm_vision.engine import Inference
from myrvm_vision.outline_examiner import OutlineExaminer
from myrvm_vision.picture_quality import QualityLimits
from myrvm_vision.recognizer import Look, Recognizer, annotate
from myrvm_vision.segmenter import Embedding, OverdueError, Prompt, Segment
from myrvm_vision.settings import DetectorSettings, OutlineSettings
from numpy.typing import NDArray

from myrvm_core import paths, rules

IMAGE = np.random.default_rng(0).integers(60, 200, (240, 320, 3)).astype(np.uint8)
ITEM = Detection("mineral", 0, 0.9, Box(80.0, 60.0, 240.0, 160.0))


class OneItem:
    """A stand-in for the engine: always the same detection."""

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        return Inference((ITEM,), 0.0, 0.0, 0.0)


class Ellipse:
    """A stand-in for the segmenter: an ellipse in the box, or an error."""

    def __init__(self, error: ModelError | None = None) -> None:
        self.error = error
        self.pictures = 0

    def embed(self, image: NDArray[np.uint8], deadline_s: float = math.inf) -> Embedding:
        self.pictures += 1
        if self.error is not None:
            raise self.error
        return Embedding(240, 320, None)

    def segment(self, _: Embedding, prompts: Sequence[Prompt], deadline_s: float = math.inf) -> tuple[Segment, ...]:
        rows, columns = np.indices((240, 320))
        mask = ((columns - 160) / 78) ** 2 + ((rows - 110) / 30) ** 2 < 1
        return tuple(Segment(mask, 0.9, 0.9, figures={"fill": 0.25}) for _ in prompts)


def look(segmenter: Ellipse, outlined: bool) -> Look:
    recognizer = Recognizer(
        cast(Any, OneItem()),
        ModelInfo(),
        rules.load(paths.home() / "config" / "rules.yaml", 0.7),
        QualityLimits(0.0, 1.0, 0.0),
        DetectorSettings(),
        [OutlineExaminer(cast(Any, segmenter), OutlineSettings())],
    )
    return recognizer.look(IMAGE, 1, outlined=outlined)


def test_nobody_watches_and_nothing_is_outlined() -> None:
    segmenter = Ellipse()
    assert look(segmenter, outlined=False).outlines == ()
    assert segmenter.pictures == 0


def test_who_watches_sees_the_outline() -> None:
    segmenter = Ellipse()
    seen = look(segmenter, outlined=True)
    assert segmenter.pictures == 1
    assert seen.outlines[0].fill == 0.25
    plain, drawn = annotate(IMAGE, replace(seen, outlines=())), annotate(IMAGE, seen)
    assert drawn.shape == IMAGE.shape
    assert drawn.dtype == np.uint8
    assert (drawn != plain)[110, 90:230].any(1).all()
    assert not (drawn != plain)[:60].any()
    assert (drawn != plain)[205:225, 8:100].any()  # the words


@pytest.mark.parametrize("error", [OverdueError("was stopped"), ModelError("broke")])
def test_a_picture_without_outline_says_why_and_is_shown(error: ModelError) -> None:
    seen = look(Ellipse(error), outlined=True)
    assert [outline.skipped for outline in seen.outlines] == [str(error)]
    assert annotate(IMAGE, seen).shape == IMAGE.shape
