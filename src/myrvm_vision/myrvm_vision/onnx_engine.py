"""ONNX Runtime on the CPU: the desk's engine. Classes, input size and stride come from the model's own metadata."""

from __future__ import annotations

import ast
import ctypes
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
from myrvm_core.errors import ModelError
from numpy.typing import NDArray

from myrvm_vision.engine import EngineDescription, EngineOptions, Inference, to_detections
from myrvm_vision.letterbox import Letterbox
from myrvm_vision.postprocess import decode


class OnnxEngine:
    """An `Engine` for models that ultralytics exported to ONNX."""

    def __init__(self, file: Path, options: EngineOptions) -> None:
        self._file = file
        self._options = options
        self._session: Any = None

    def load(self) -> None:
        """See `Engine`."""
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = self._options.threads
        session_options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(self._file), session_options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no public base class
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{self._file} is not a model that ONNX Runtime loads: {reason}") from error
        self._input = self._session.get_inputs()[0].name
        dynamic = self._read_metadata(self._session.get_modelmeta().custom_metadata_map)
        # As ultralytics: a fixed input is filled up, one of any size gets the least padding.
        self._letterbox = Letterbox(self._description.size, self._description.stride if dynamic else 0)
        self.infer(np.zeros((*self._description.size, 3), np.uint8))
        _return_memory()

    def _read_metadata(self, metadata: dict[str, str]) -> bool:
        try:
            names: dict[int, str] = ast.literal_eval(metadata["names"])
            height, width = ast.literal_eval(metadata["imgsz"])
            self._description = EngineDescription(
                engine="onnx",
                class_names=tuple(str(names[number]) for number in range(len(names))),
                size=(int(height), int(width)),
                stride=int(metadata["stride"]),
            )
            return bool(ast.literal_eval(metadata.get("args", "{}")).get("dynamic", False))
        except (KeyError, ValueError, TypeError, SyntaxError, AttributeError) as error:
            raise ModelError(
                f"{self._file} has no metadata of an ultralytics export (names, imgsz, stride): {error!r}"
            ) from error

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """See `Engine`."""
        session = self._session
        if session is None:
            raise ModelError(f"{self._file} is not loaded")
        begun = perf_counter()
        network_input, placement = self._letterbox(image)
        prepared = perf_counter()
        try:
            output = session.run(None, {self._input: network_input})[0]
        except Exception as error:  # as above
            raise ModelError(f"{self._file}: {' '.join(str(error).split())[:200]}") from error
        inferred = perf_counter()
        try:
            rows = decode(output, len(self._description.class_names), self._options.limits)
        except ValueError as error:
            raise ModelError(f"{self._file}: {error}") from error
        rows[:, :4] = placement.to_picture(rows[:, :4])
        detections = to_detections(rows, self._description.class_names)
        return Inference(detections, prepared - begun, inferred - prepared, perf_counter() - inferred)

    def describe(self) -> EngineDescription:
        """See `Engine`."""
        return self._description

    def close(self) -> None:
        """See `Engine`."""
        self._session = None
        _return_memory()


def _return_memory() -> None:
    """Give what loading and closing left in the allocator back to the system: 30 MB, and no growth over many loads."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
