"""The interface of inference engines, and the factory that chooses one by the model file's suffix."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from myrvm_core.errors import ModelError
from myrvm_core.verdict import Box, Detection
from numpy.typing import NDArray

from myrvm_vision.postprocess import Limits

SUFFIXES = {".onnx": "onnx", ".pt": "ultralytics", ".engine": "ultralytics"}


@dataclass(frozen=True)
class EngineDescription:
    """What an engine knows of its model; `size` is height and width of the network's input, px."""

    engine: str
    class_names: tuple[str, ...]
    size: tuple[int, int]
    stride: int


@dataclass(frozen=True)
class Inference:
    """What was found in one picture, best score first, and how long each stage took, s."""

    detections: tuple[Detection, ...]
    preprocess_s: float
    inference_s: float
    postprocess_s: float


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs."""

    threads: int = 2
    limits: Limits = field(default_factory=Limits)


class Engine(Protocol):
    """A network that finds objects in pictures. Used by one thread at a time."""

    def load(self) -> None:
        """Load the model and run it once, so that the first picture does not wait.

        Raises:
            ModelError: one line that says which file and why.
        """
        ...

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Objects in a picture: height x width x 3, BGR, uint8; boxes in the picture's own pixels.

        Raises:
            ModelError: the network failed.
        """
        ...

    def describe(self) -> EngineDescription:
        """What the model says of itself; after `load`."""
        ...

    def close(self) -> None:
        """Release the model. May be called again."""
        ...


def make_engine(file: Path, kind: str = "auto", options: EngineOptions | None = None) -> Engine:
    """An engine for a model file, not loaded yet.

    Args:
        file: .onnx, .pt or .engine.
        kind: `onnx`, `ultralytics`, or `auto` for the one that the suffix names.
        options: how it runs.

    Raises:
        ModelError: no engine takes such a file.
    """
    options = options or EngineOptions()
    if kind == "auto":
        if file.suffix not in SUFFIXES:
            raise ModelError(f"{file}: suffix {file.suffix!r} is not a model's; allowed: {', '.join(SUFFIXES)}")
        kind = SUFFIXES[file.suffix]
    # Each engine is imported only where it is chosen: torch alone takes seconds and 300 MB.
    if kind == "onnx":
        from myrvm_vision.onnx_engine import OnnxEngine

        return OnnxEngine(file, options)
    if kind == "ultralytics":
        from myrvm_vision.ultralytics_engine import UltralyticsEngine

        return UltralyticsEngine(file, options)
    raise ModelError(f"engine {kind!r} is not known; allowed: auto, onnx, ultralytics")


def to_detections(rows: NDArray[np.float32], class_names: tuple[str, ...]) -> tuple[Detection, ...]:
    """Detections from rows of x_min, y_min, x_max, y_max, score, class number."""
    return tuple(
        Detection(class_names[int(number)], int(number), score, Box(x_min, y_min, x_max, y_max))
        for x_min, y_min, x_max, y_max, score, number in rows.tolist()
    )
