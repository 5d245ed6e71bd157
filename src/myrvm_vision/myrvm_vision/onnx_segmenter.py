"""Segment Anything's public pair of ONNX files on ONNX Runtime: `NAME.encoder.onnx` and `NAME.decoder.onnx`.

Source: facebookresearch/segment-anything, `utils/onnx.py` and `notebooks/onnx_model_example.ipynb`. The encoder takes
either the padded, normalised picture (1, 3, side, side), or the scaled one (height, width, 3) as samexporter writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any, ClassVar

import cv2
import numpy as np
import onnxruntime
from myrvm_core.errors import ModelError
from numpy.typing import NDArray

from myrvm_vision.engine import check_picture, one_line
from myrvm_vision.onnx_engine import return_memory
from myrvm_vision.segmenter import (
    Embedding,
    OverdueError,
    Prompt,
    Segment,
    SegmenterDescription,
    SegmenterOptions,
    in_batches,
    stability_of,
)

SIDE_PX, MASK_STRIDE = 1024, 4  # of Segment Anything, where the files do not say
MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of red, green, blue; Segment Anything
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
CORNER_LABELS, PADDING_LABEL = (2.0, 3.0), -1.0
BATCH = 16  # prompts that a decoder answers at once, where it can
NEEDED = {"image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"}
GIVEN = {"masks", "iou_predictions"}
PARTS = "part_masks"  # further outputs that the shipped network has, with their names in the file's metadata
FIGURES = "item_figures"


@dataclass(frozen=True)
class Pair:
    """The two networks and what their inputs look like."""

    encoder: Any
    decoder: Any
    side_px: int
    padded: bool
    mask_shape: tuple[int, int, int, int]
    batch: int
    parts: tuple[str, ...]
    figures: tuple[str, ...]


class OnnxSegmenter:
    """A `Segmenter` for such a pair; `file` is the encoder's."""

    suffixes: ClassVar = (".encoder.onnx",)

    def __init__(self, file: Path, options: SegmenterOptions) -> None:
        self._file = file
        self._options = options
        self._pair: Pair | None = None

    def load(self) -> None:
        """See `Segmenter`."""
        try:
            self._pair = self._open()
            blank = np.zeros((240, 320, 3), np.uint8)
            self.segment(self.embed(blank), [Prompt(points=((160.0, 120.0),), labels=(1,))])
        except ModelError:
            self.close()
            raise
        except Exception as error:  # ONNX Runtime raises its own, and what a wrong graph gives
            self.close()
            raise ModelError(f"{self._file} is not a segmenter's encoder: {one_line(error)}") from error
        return_memory()

    def _open(self) -> Pair:
        decoder_file = decoder_of(self._file)
        encoder, decoder = self._session(self._file), self._session(decoder_file)
        inputs = {one.name: one for one in decoder.get_inputs()}
        outputs = {one.name for one in decoder.get_outputs()}
        if lacking := sorted((NEEDED - inputs.keys()) | (GIVEN - outputs)):
            raise ModelError(
                f"{decoder_file} has no {', '.join(lacking)}: it is no decoder of Segment Anything's layout"
            )
        picture = encoder.get_inputs()[0].shape
        if len(picture) not in (3, 4):
            raise ModelError(
                f"{self._file} has an input of {picture}; allowed: 1 x 3 x side x side, height x width x 3"
            )
        names = decoder.get_modelmeta().custom_metadata_map
        mask = [side if isinstance(side, int) else SIDE_PX // MASK_STRIDE for side in inputs["mask_input"].shape]
        padded = len(picture) == 4
        return Pair(
            encoder,
            decoder,
            # An encoder that pads by itself takes any size; then the decoder's masks tell the side.
            side_px=picture[2] if padded and isinstance(picture[2], int) else MASK_STRIDE * mask[2],
            padded=padded,
            mask_shape=(1, 1, mask[2], mask[3]),
            batch=1 if isinstance(inputs["point_coords"].shape[0], int) else BATCH,
            parts=tuple(names["parts"].split()) if PARTS in outputs else (),
            figures=tuple(names["figures"].split()) if FIGURES in outputs else (),
        )

    def _session(self, file: Path) -> Any:
        if not file.is_file():
            raise ModelError(f"{file} does not exist")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._options.threads
        options.log_severity_level = 4  # a run that is ended at its deadline is no error
        try:
            return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"{file} is not a network that ONNX Runtime loads: {one_line(error)}") from error

    def embed(self, image: NDArray[np.uint8], deadline_s: float = math.inf) -> Embedding:
        """See `Segmenter`."""
        pair = self._loaded()
        check_picture(image)
        feeds = {pair.encoder.get_inputs()[0].name: network_input(image, pair.side_px, pair.padded)}
        features = self._run(pair.encoder, feeds, deadline_s)
        first = pair.encoder.get_outputs()[0].name
        return Embedding(image.shape[0], image.shape[1], features.get("image_embeddings", features[first]))

    def segment(
        self, embedding: Embedding, prompts: Sequence[Prompt], deadline_s: float = math.inf
    ) -> tuple[Segment, ...]:
        """See `Segmenter`."""
        pair = self._loaded()
        found: dict[int, Segment] = {}
        for numbers in in_batches(prompts, pair.batch):
            chosen = [prompts[number] for number in numbers]
            feeds = {
                "image_embeddings": embedding.features,
                **encode(chosen, (embedding.height, embedding.width), pair.side_px),
                "mask_input": np.zeros(pair.mask_shape, np.float32),
                "has_mask_input": np.zeros(1, np.float32),
                "orig_im_size": np.array([embedding.height, embedding.width], np.float32),
            }
            answers = self._run(pair.decoder, feeds, deadline_s)
            for place, number in enumerate(numbers):
                found[number] = self._answer(answers, place, prompts[number], embedding, pair)
        return tuple(found[number] for number in range(len(prompts)))

    def _answer(
        self, answers: dict[str, NDArray[np.float32]], place: int, prompt: Prompt, embedding: Embedding, pair: Pair
    ) -> Segment:
        scores = answers["iou_predictions"][place]
        chosen = best_of(scores, prompt)
        logits = answers["masks"][place, chosen]
        parts = {}
        if pair.parts:
            shape = (embedding.height, embedding.width)
            parts = {
                name: enlarge(part, shape, pair.side_px)
                for name, part in zip(pair.parts, answers[PARTS][place], strict=True)
            }
        figures = dict(zip(pair.figures, answers[FIGURES][place].tolist(), strict=True)) if pair.figures else {}
        score = float(np.clip(scores[chosen], 0.0, 1.0))
        return Segment(logits > 0.0, score, stability_of(logits), parts, figures)

    def _run(self, session: Any, feeds: dict[str, Any], deadline_s: float) -> dict[str, NDArray[np.float32]]:
        names = [one.name for one in session.get_outputs()]
        try:
            with ended_at(deadline_s) as options:
                return dict(zip(names, session.run(names, feeds, options), strict=True))
        except Exception as error:
            if monotonic() >= deadline_s:
                raise OverdueError(f"{self._file.name} was stopped at its deadline") from error
            raise ModelError(f"{self._file}: {one_line(error)}") from error

    def _loaded(self) -> Pair:
        if self._pair is None:
            raise ModelError(f"{self._file} is not loaded")
        return self._pair

    def describe(self) -> SegmenterDescription:
        """See `Segmenter`."""
        pair = self._loaded()
        return SegmenterDescription("onnx", pair.side_px, pair.parts)

    def close(self) -> None:
        """See `Segmenter`."""
        self._pair = None
        return_memory()


def decoder_of(encoder: Path) -> Path:
    """The decoder's file beside an encoder's."""
    return encoder.with_name(encoder.name.removesuffix(".encoder.onnx") + ".decoder.onnx")


@contextmanager
def ended_at(deadline_s: float) -> Iterator[Any]:
    """Options of a run that ONNX Runtime breaks off, between two of the graph's nodes, at a monotonic time."""
    options = onnxruntime.RunOptions()
    if math.isinf(deadline_s):
        yield options
        return

    def end() -> None:
        options.terminate = True

    timer = Timer(max(deadline_s - monotonic(), 0.0), end)
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()
        timer.join()


def scaled_size(picture: tuple[int, int], side_px: int) -> tuple[int, int]:
    """Height and width with the longer side scaled to `side_px`, rounded as Segment Anything does."""
    scale = side_px / max(picture)
    return int(picture[0] * scale + 0.5), int(picture[1] * scale + 0.5)


def network_input(image: NDArray[np.uint8], side_px: int, padded: bool) -> NDArray[np.float32]:
    """A BGR picture as an encoder takes it: scaled, RGB, and where it is `padded` normalised, at the upper left."""
    height, width = scaled_size((image.shape[0], image.shape[1]), side_px)
    smaller = height < image.shape[0]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    scaled = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=interpolation), cv2.COLOR_BGR2RGB)
    if not padded:
        return scaled.astype(np.float32)
    planes = np.zeros((1, 3, side_px, side_px), np.float32)
    planes[0, :, :height, :width] = ((scaled - MEAN) / DEVIATION).transpose(2, 0, 1)
    return planes


def encode(prompts: Sequence[Prompt], picture: tuple[int, int], side_px: int) -> dict[str, NDArray[np.float32]]:
    """Prompts of one form as the decoder takes them: points of the scaled picture, a box as its two corners."""
    height, width = scaled_size(picture, side_px)
    scale = np.array([width / picture[1], height / picture[0]])
    rows: list[list[tuple[float, float]]] = []
    labels: list[list[float]] = []
    for prompt in prompts:
        places, kinds = list(prompt.points), [float(label) for label in prompt.labels]
        if prompt.box is not None:
            places += [(prompt.box.x_min, prompt.box.y_min), (prompt.box.x_max, prompt.box.y_max)]
            kinds += CORNER_LABELS
        else:
            places.append((0.0, 0.0))
            kinds.append(PADDING_LABEL)
        rows.append(places)
        labels.append(kinds)
    points = np.array(rows, np.float64) * scale
    return {"point_coords": points.astype(np.float32), "point_labels": np.array(labels, np.float32)}


def best_of(scores: NDArray[np.floating], prompt: Prompt) -> int:
    """Which of several masks: the first for a prompt that leaves no doubt, of the others the best for a single point.

    Source: as above, `select_masks`.
    """
    if len(scores) == 1 or prompt.box is not None or len(prompt.points) > 1:
        return 0
    return 1 + int(np.argmax(scores[1:]))


def enlarge(logits: NDArray[np.float32], picture: tuple[int, int], side_px: int) -> NDArray[np.float32]:
    """Probabilities at picture size from a network's small logits, which cover the padded input."""
    height, width = scaled_size(picture, side_px)
    rows, columns = (max(round(side * logits.shape[0] / side_px), 1) for side in (height, width))
    inside = 1.0 / (1.0 + np.exp(-logits[:rows, :columns]))
    return np.asarray(cv2.resize(inside, (picture[1], picture[0]), interpolation=cv2.INTER_LINEAR), np.float32)
