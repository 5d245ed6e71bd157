"""The interface of promptable segmenters, and the segmenter for a file: a prompt in, the outline of what it means out.

Segmenters are plug-ins: classes in the entry point group `myrvm_vision.segmenters`, made with a file and options. The
picture is seen once (`embed`, the expensive part), then asked about as often as wanted (`segment`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from myrvm_core.errors import ModelError
from myrvm_core.verdict import Box
from numpy.typing import NDArray

from myrvm_vision import plug_ins

GROUP = "myrvm_vision.segmenters"
STABILITY_OFFSET = 1.0  # logits, the default of Segment Anything's automatic mask generator
CORNERS = 128  # of an outline at most


class OverdueError(ModelError):
    """The outline was not ready in time."""


@dataclass(frozen=True)
class Prompt:
    """What is meant: a box, points, or both; px of the picture.

    Args:
        box: around it.
        points: x and y of places.
        labels: of each point, 1 if it lies on what is meant, 0 if not.

    Raises:
        ValueError: it names nothing, or a point has no label.
    """

    box: Box | None = None
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.points) != len(self.labels) or set(self.labels) - {0, 1}:
            raise ValueError(f"labels = {self.labels} are not allowed: 0 or 1 for each of {len(self.points)} points")
        if self.box is None and 1 not in self.labels:
            raise ValueError("the prompt names nothing: want a box, or a point labelled 1")

    @property
    def form(self) -> tuple[bool, int]:
        """Whether there is a box, and how many points: prompts of one form can be answered together."""
        return self.box is not None, len(self.points)


@dataclass(frozen=True)
class Segment:
    """What a prompt means.

    Args:
        mask: height x width of the picture, where it is.
        score: overlap (IoU) with the truth, as the network predicts it.
        stability: see `stability_of`; NaN where the network gives no logits.
        parts: places of liquid, cap, label ... within the picture, probability; none from networks that know of none.
        figures: what the network says of the whole item (crush, fill, cap), 0 .. 1; likewise.
    """

    mask: NDArray[np.bool_]
    score: float
    stability: float
    parts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict[str, NDArray[np.float32]])
    figures: Mapping[str, float] = field(default_factory=dict[str, float])

    @cached_property
    def outline(self) -> NDArray[np.float32]:
        """See `outline_of`."""
        return outline_of(self.mask)


@dataclass(frozen=True)
class Embedding:
    """A picture as a segmenter has seen it; only that segmenter can read `features`."""

    height: int
    width: int
    features: Any


@dataclass(frozen=True)
class SegmenterDescription:
    """What a segmenter knows of its network; `size_px` is its input's side."""

    segmenter: str
    size_px: int
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class SegmenterOptions:
    """How a segmenter runs.

    Args:
        threads: of a forward pass.
        size_px: side of the input, for networks that take any.
        trusted_folder: where files may be that can run code when they are loaded (`.pt`); None: nowhere.
    """

    threads: int = 2
    size_px: int = 1024
    trusted_folder: Path | None = None


class Segmenter(Protocol):
    """A network that outlines what is asked for. Used by one thread at a time, not always by the same."""

    def load(self) -> None:
        """Load the network and run it once, so that the first picture does not wait.

        Raises:
            ModelError: one line that says which file and why.
        """
        ...

    def embed(self, image: NDArray[np.uint8], deadline_s: float = math.inf) -> Embedding:
        """See a picture: height x width x 3, BGR, uint8.

        Args:
            image: the picture.
            deadline_s: monotonic time at which it stops.

        Raises:
            OverdueError: it was not done by the deadline.
            ModelError: the network failed, or is not loaded.
            ImageError: that is no such picture.
        """
        ...

    def segment(
        self, embedding: Embedding, prompts: Sequence[Prompt], deadline_s: float = math.inf
    ) -> tuple[Segment, ...]:
        """What the prompts mean, in their order. Errors as in `embed`."""
        ...

    def describe(self) -> SegmenterDescription:
        """What the network says of itself; after `load`."""
        ...

    def close(self) -> None:
        """Release the network. May be called again."""
        ...


class SegmenterClass(Protocol):
    """What an entry point names. Its module imports what the machine may lack (torch) in `load` only."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files that are given to this segmenter."""
        ...

    def __call__(self, file: Path, options: SegmenterOptions) -> Segmenter:
        """A segmenter for a file, not loaded yet."""
        ...


def installed() -> dict[str, SegmenterClass]:
    """The segmenters by name.

    Raises:
        ModelError: one of them cannot be imported.
    """
    return plug_ins.installed(GROUP, "segmenter")


def make_segmenter(file: Path, options: SegmenterOptions | None = None) -> Segmenter:
    """A segmenter for a file, not loaded yet.

    Raises:
        ModelError: none takes such a file.
    """
    takers = {suffix: segmenter for segmenter in installed().values() for suffix in segmenter.suffixes}
    for suffix, segmenter in takers.items():
        if file.name.endswith(suffix):
            return segmenter(file, options or SegmenterOptions())
    raise ModelError(f"{file} is not a segmenter's file; allowed: names that end in {', '.join(sorted(takers))}")


def in_batches(prompts: Sequence[Prompt], most: int) -> list[list[int]]:
    """Numbers of the prompts that can be answered together: of one form, `most` at a time."""
    forms: dict[tuple[bool, int], list[int]] = {}
    for number, prompt in enumerate(prompts):
        forms.setdefault(prompt.form, []).append(number)
    return [alike[start : start + most] for alike in forms.values() for start in range(0, len(alike), most)]


def stability_of(logits: NDArray[np.floating], offset: float = STABILITY_OFFSET) -> float:
    """How little a mask depends on its threshold: overlap (IoU) of the masks at plus and minus `offset`, 0 .. 1.

    Source: facebookresearch/segment-anything, `utils/amg.py`, `calculate_stability_score`. Of an empty mask 0.
    """
    larger = np.count_nonzero(logits > -offset)
    return np.count_nonzero(logits > offset) / larger if larger else 0.0


def outline_of(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Corners (n, 2) of the largest connected part's outline, px, at most `CORNERS`; none of an empty mask."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.zeros((0, 2), np.float32)
    whole = max(contours, key=cv2.contourArea)
    tolerance_px = 0.5
    while len(corners := cv2.approxPolyDP(whole, tolerance_px, closed=True)) > CORNERS:
        tolerance_px *= 1.5
    return corners.reshape(-1, 2).astype(np.float32)
