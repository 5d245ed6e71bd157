"""ultralytics and torch, for `.pt` files and TensorRT's `.engine`. Imported only where such a model is configured."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from myrvm_core.errors import ModelError
from numpy.typing import NDArray

from myrvm_vision.engine import EngineDescription, EngineOptions, Inference, to_detections


class UltralyticsEngine:
    """An `Engine` for whatever ultralytics loads."""

    def __init__(self, file: Path, options: EngineOptions) -> None:
        self._file = file
        self._options = options
        self._model: Any = None

    def load(self) -> None:
        """See `Engine`."""
        try:
            torch = importlib.import_module("torch")
            ultralytics = importlib.import_module("ultralytics")
        except ImportError as error:
            raise ModelError(
                f"{self._file} needs ultralytics and torch, which are not installed ({error}): "
                "run python3 deploy/desk/setup.py torch, or choose a .onnx model"
            ) from error
        torch.set_num_threads(self._options.threads)
        if not self._file.is_file():
            raise ModelError(f"{self._file} does not exist")  # ultralytics would try to download it
        try:
            self._model = ultralytics.YOLO(str(self._file), task="detect")
            self._describe(self._predict(np.zeros((320, 320, 3), np.uint8)))
        except Exception as error:  # torch, pickle and TensorRT each raise their own
            self._model = None
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{self._file} is not a model that ultralytics loads: {reason}") from error

    def _predict(self, image: NDArray[np.uint8]) -> Any:
        limits = self._options.limits
        options = {"conf": limits.score, "iou": limits.overlap, "max_det": limits.count, "verbose": False}
        return self._model.predict(image, **options)[0]

    def _describe(self, result: Any) -> None:
        backend = self._model.predictor.model
        size = self._model.predictor.imgsz
        self._description = EngineDescription(
            engine="ultralytics",
            class_names=tuple(str(result.names[number]) for number in range(len(result.names))),
            size=(int(size[0]), int(size[1])),
            stride=int(backend.stride),
        )

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """See `Engine`."""
        if self._model is None:
            raise ModelError(f"{self._file} is not loaded")
        try:
            result = self._predict(image)
        except Exception as error:  # as above
            raise ModelError(f"{self._file}: {' '.join(str(error).split())[:200]}") from error
        stages = ("preprocess", "inference", "postprocess")
        seconds = [float(result.speed[stage] or 0.0) / 1000.0 for stage in stages]
        rows = np.asarray(result.boxes.data.cpu().numpy(), np.float32)
        return Inference(to_detections(rows, self._description.class_names), *seconds)

    def describe(self) -> EngineDescription:
        """See `Engine`."""
        return self._description

    def close(self) -> None:
        """See `Engine`."""
        self._model = None
