"""ultralytics' Segment Anything family: `mobile_sam.pt`, `sam_b.pt`, `sam2.1_t.pt` ..., `FastSAM-s.pt`. Needs torch.

ultralytics tells the network by the file's name, and so must this. A `.pt` is a pickle: see `ultralytics_engine`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
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
from myrvm_vision.ultralytics_engine import import_for, read_safely

BATCH = 16  # prompts that are answered at once
SCORE, OVERLAP = 0.25, 0.9  # FastSAM's own limits: scores, suppression


class UltralyticsSegmenter:
    """A `Segmenter` for such a file."""

    suffixes: ClassVar = (".pt",)

    def __init__(self, file: Path, options: SegmenterOptions) -> None:
        self._file = file
        self._options = options
        self._fast = "fastsam" in file.name.lower()
        self._predictor: Any = None
        self._torch: Any = None
        self._deadline_s = math.inf

    def load(self) -> None:
        """See `Segmenter`."""
        names = ("torch", "ultralytics.models", "ultralytics.models.fastsam", "ultralytics.models.sam")
        modules = import_for(self._file, self._options, "a pair of .onnx files", *names)
        self._torch, models, fast, sam = modules
        options = {
            "model": str(self._file), "imgsz": self._options.size_px, "conf": SCORE, "rect": True, "retina_masks": True,
            "verbose": False, "save": False,
        }  # fmt: skip
        try:
            if self._fast:
                read_safely(self._file)
                self._predictor = fast.FastSAMPredictor(overrides={**options, "iou": OVERLAP})
                self._predictor.setup_model(models.FastSAM(str(self._file)).model, verbose=False)
            else:
                self._torch.load(self._file, map_location="cpu", weights_only=True)  # nothing but tensors runs no code
                kind = sam.SAM2Predictor if "sam2" in self._file.name else sam.Predictor
                self._predictor = kind(overrides=options)
                self._predictor.setup_model(verbose=False)
            for module in self._predictor.model.modules():
                module.register_forward_pre_hook(self._stop_when_due)
            blank = np.zeros((240, 320, 3), np.uint8)
            self.segment(self.embed(blank), [Prompt(points=((160.0, 120.0),), labels=(1,))])
        except Exception as error:  # torch and pickle each raise their own
            self.close()
            raise ModelError(f"{self._file} is not a segmenter that ultralytics loads: {one_line(error)}") from error

    def embed(self, image: NDArray[np.uint8], deadline_s: float = math.inf) -> Embedding:
        """See `Segmenter`."""
        predictor = self._loaded()
        check_picture(image)
        with self._until(deadline_s):
            if self._fast:
                features: Any = predictor(image)[0]  # all that it sees; prompts choose from it
            else:
                predictor.setup_source(image)
                picture = predictor.preprocess([image])
                features = predictor.get_im_features(picture), picture, image
        return Embedding(image.shape[0], image.shape[1], features)

    def segment(
        self, embedding: Embedding, prompts: Sequence[Prompt], deadline_s: float = math.inf
    ) -> tuple[Segment, ...]:
        """See `Segmenter`."""
        self._loaded()
        found: dict[int, Segment] = {}
        with self._until(deadline_s):
            for numbers in in_batches(prompts, 1 if self._fast else BATCH):
                chosen = [prompts[number] for number in numbers]
                answers = [self._choose(embedding, chosen[0])] if self._fast else self._ask(embedding, chosen)
                found.update(zip(numbers, answers, strict=True))
        return tuple(found[number] for number in range(len(prompts)))

    def _ask(self, embedding: Embedding, prompts: Sequence[Prompt]) -> list[Segment]:
        """Prompts of one form, answered by SAM; a single point leaves a doubt that several masks answer."""
        predictor = self._predictor
        predictor.features, picture, image = embedding.features
        predictor.batch = ([""], [image], [""])  # where it reads the picture's size
        boxed, points = prompts[0].form
        several = not boxed and points == 1
        masks, scores = predictor.prompt_inference(
            picture,
            bboxes=[_sides(prompt) for prompt in prompts] if boxed else None,
            points=[prompt.points for prompt in prompts] if points else None,
            labels=[prompt.labels for prompt in prompts] if points else None,
            multimask_output=several,
        )
        masks = masks.reshape(len(prompts), -1, *masks.shape[-2:])
        scores = scores.reshape(len(prompts), -1)
        answers: list[Segment] = []
        for low, score in zip(masks, scores, strict=True):
            best = int(score.argmax())
            logits = self._enlarge(low[best], embedding)
            answers.append(Segment(logits > 0.0, float(score[best].clamp(0.0, 1.0)), stability_of(logits)))
        return answers

    def _enlarge(self, logits: Any, embedding: Embedding) -> NDArray[np.float32]:
        """To picture size: the picture lies at the upper left of the square input."""
        scale = logits.shape[-1] / max(embedding.height, embedding.width)
        height, width = (max(round(side * scale), 1) for side in (embedding.height, embedding.width))
        inside = logits[None, None, :height, :width].float()
        shape = (embedding.height, embedding.width)
        whole = self._torch.nn.functional.interpolate(inside, shape, mode="bilinear")
        return whole[0, 0].cpu().numpy()

    def _choose(self, embedding: Embedding, prompt: Prompt) -> Segment:
        """Of all that FastSAM sees what the prompt means; it gives no logits, so that no stability is known."""
        everything = embedding.features
        if prompt.box is not None:
            chosen = self._predictor.prompt(everything, bboxes=[_sides(prompt)])[0]
        else:
            chosen = self._predictor.prompt(everything, points=prompt.points, labels=prompt.labels)[0]
        if len(chosen) == 0:
            return Segment(np.zeros((embedding.height, embedding.width), np.bool_), 0.0, math.nan)
        best = int(chosen.boxes.conf.argmax())
        return Segment(chosen.masks.data[best].cpu().numpy() > 0.5, float(chosen.boxes.conf[best]), math.nan)

    def _stop_when_due(self, *_: Any) -> None:
        if monotonic() >= self._deadline_s:
            raise OverdueError(f"{self._file.name} was stopped at its deadline")

    @contextmanager
    def _until(self, deadline_s: float) -> Iterator[None]:
        """The work of torch with a deadline, which is looked at before each layer and at the end."""
        self._deadline_s = deadline_s
        try:
            with self._torch.inference_mode():
                self._stop_when_due()
                yield
                self._stop_when_due()
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{self._file}: {one_line(error)}") from error
        finally:
            self._deadline_s = math.inf

    def _loaded(self) -> Any:
        if self._predictor is None:
            raise ModelError(f"{self._file} is not loaded")
        return self._predictor

    def describe(self) -> SegmenterDescription:
        """See `Segmenter`."""
        self._loaded()
        return SegmenterDescription("ultralytics", self._options.size_px)

    def close(self) -> None:
        """See `Segmenter`."""
        self._predictor = None
        return_memory()


def _sides(prompt: Prompt) -> list[float]:
    box = prompt.box
    assert box is not None  # as the form says
    return [box.x_min, box.y_min, box.x_max, box.y_max]
