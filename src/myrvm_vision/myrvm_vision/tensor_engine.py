"""Base of the engines that take a tensor and give one: letterbox before, suppression after, checks of the model.

A subclass opens the model, runs it and closes it. What the model is (classes, input size, stride) it says itself, in
the metadata that ultralytics writes into what it exports.
"""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
from myrvm_core.errors import ModelError
from numpy.typing import NDArray

from myrvm_vision.engine import EngineDescription, EngineOptions, Inference, check_picture, one_line, to_detections
from myrvm_vision.letterbox import Letterbox
from myrvm_vision.postprocess import decode

SIZE_PX = (32, 2048)  # of a side of the network's input
CHANNELS = 3


@dataclass(frozen=True)
class OpenedModel:
    """What an opened model is: its metadata, the shape of its input (None: any), and the input's number type."""

    metadata: Mapping[str, str]
    shape: tuple[int | None, ...]
    dtype: type[np.float32] | type[np.float16] = np.float32


class TensorEngine(ABC):
    """An `Engine` for models with one input and one output.

    Args:
        file: of the model.
        options: how it runs.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    library: ClassVar[str]
    """What runs it, as people call it."""

    def __init__(self, file: Path, options: EngineOptions) -> None:
        self.file = file
        self.options = options
        self._loaded = False

    @abstractmethod
    def open_model(self) -> OpenedModel:
        """Open the model; whatever it raises, but a `ModelError`, becomes one: this file is no model for us."""

    @abstractmethod
    def run_model(self, network_input: NDArray[Any]) -> NDArray[Any]:
        """The output for one input, valid until the next call; whatever it raises becomes a `ModelError`."""

    @abstractmethod
    def close_model(self) -> None:
        """Release what `open_model` made, also where that failed half way."""

    def load(self) -> None:
        """See `Engine`."""
        try:
            model = self._open()
            self._description = self._check(model)
            dynamic = model.shape[2] is None
            # As ultralytics: a fixed input is filled up, one of any size gets the least padding.
            stride = self._description.stride if dynamic else 0
            self._letterbox = Letterbox(self._description.size, stride, model.dtype)
            self._loaded = True
            self.infer(np.zeros((*self._description.size, CHANNELS), np.uint8))
        except ModelError:
            self.close()
            raise

    def _open(self) -> OpenedModel:
        if not self.file.is_file():
            raise ModelError(f"{self.file} does not exist")
        try:
            return self.open_model()
        except ModelError:
            raise
        except Exception as error:  # each library has its own, without a common base
            raise ModelError(f"{self.file} is not a model that {self.library} loads: {one_line(error)}") from error

    def _check(self, model: OpenedModel) -> EngineDescription:
        try:
            names: dict[int, str] = ast.literal_eval(model.metadata["names"])
            height, width = ast.literal_eval(model.metadata["imgsz"])
            description = EngineDescription(
                engine=self.name,
                class_names=tuple(str(names[number]) for number in range(len(names))),
                size=(int(height), int(width)),
                stride=int(model.metadata["stride"]),
            )
        except (KeyError, ValueError, TypeError, SyntaxError, AttributeError) as error:
            raise ModelError(
                f"{self.file} has no metadata of an ultralytics export (names, imgsz, stride): {error!r}"
            ) from error
        if problem := _problem(model, description):
            raise ModelError(f"{self.file} {problem}")
        return description

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """See `Engine`."""
        if not self._loaded:
            raise ModelError(f"{self.file} is not loaded")
        check_picture(image)
        begun = perf_counter()
        network_input, placement = self._letterbox(image)
        prepared = perf_counter()
        try:
            output = self.run_model(network_input)
        except Exception as error:  # as above
            raise ModelError(f"{self.file}: {one_line(error)}") from error
        inferred = perf_counter()
        names = self._description.class_names
        try:
            rows = decode(output, len(names), self.options.limits)
        except ValueError as error:
            raise ModelError(f"{self.file}: {error}") from error
        rows[:, :4] = placement.to_picture(rows[:, :4])
        return Inference(to_detections(rows, names), prepared - begun, inferred - prepared, perf_counter() - inferred)

    def describe(self) -> EngineDescription:
        """See `Engine`."""
        return self._description

    def close(self) -> None:
        """See `Engine`."""
        self._loaded = False
        self.close_model()


def _problem(model: OpenedModel, description: EngineDescription) -> str:
    """What keeps a model from being used here, empty: nothing."""
    task = model.metadata.get("task", "detect")
    size, stride, shape = description.size, description.stride, model.shape
    low, high = SIZE_PX
    if task != "detect":
        return f"is made for the task {task!r}; allowed: detect"
    if not description.class_names:
        return "knows no class"
    if len(shape) != 4 or shape[0] not in (None, 1) or shape[1] != CHANNELS or (shape[2] is None) != (shape[3] is None):
        return f"has an input of shape {_written(shape)}; allowed: 1 x 3 x height x width"
    if shape[2] is not None and shape[2:] != size:
        return f"has an input of {_written(shape[2:])} px, and its metadata says {_written(size)}"
    if not 1 <= stride <= low or any(not low <= side <= high or side % stride for side in size):
        return f"has an input of {_written(size)} px; allowed: {low} .. {high}, multiples of its stride {stride}"
    return ""


def _written(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape)
