"""ultralytics and torch, for `.pt` files. Both are imported only where such a model is loaded.

A `.pt` is a pickle: loading one may run whatever its maker wrote. So it must lie in the trusted folder, and it is first
read by ultralytics' own allow-list of classes, where the version that is installed has one.
"""

from __future__ import annotations

import importlib
import inspect
import os
import stat
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from myrvm_core.errors import ModelError
from numpy.typing import NDArray

from myrvm_vision.engine import EngineDescription, EngineOptions, Inference, check_picture, one_line, to_detections
from myrvm_vision.onnx_engine import return_memory

# ultralytics would install what a checkpoint names and look for newer versions of itself.
QUIET = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}


class UltralyticsEngine:
    """An `Engine` for what ultralytics trains."""

    suffixes: ClassVar = (".pt",)

    def __init__(self, file: Path, options: EngineOptions) -> None:
        self._file = file
        self._options = options
        self._model: Any = None

    def load(self) -> None:
        """See `Engine`."""
        (ultralytics,) = import_for(self._file, self._options, "a .onnx model", "ultralytics")
        try:
            read_safely(self._file)
            self._model = ultralytics.YOLO(str(self._file))
            if self._model.task != "detect":
                raise ModelError(f"is made for the task {self._model.task!r}; allowed: detect")
            self._describe(self._predict(np.zeros((320, 320, 3), np.uint8)))
        except ModelError as error:
            self.close()
            raise ModelError(f"{self._file} {error}") from None
        except Exception as error:  # torch and pickle each raise their own
            self.close()
            raise ModelError(f"{self._file} is not a model that ultralytics loads: {one_line(error)}") from error

    def _predict(self, image: NDArray[np.uint8]) -> Any:
        limits = self._options.limits
        options = {"conf": limits.score, "iou": limits.overlap, "max_det": limits.count, "verbose": False}
        return self._model.predict(np.ascontiguousarray(image), **options)[0]

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
        check_picture(image)
        try:
            result = self._predict(image)
        except Exception as error:  # as above
            raise ModelError(f"{self._file}: {one_line(error)}") from error
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
        return_memory()


class TrustingOptions(Protocol):
    """Options of whatever loads a `.pt` (`EngineOptions`, `SegmenterOptions`)."""

    @property
    def threads(self) -> int:
        """Of the forward pass."""
        ...

    @property
    def trusted_folder(self) -> Path | None:
        """See `check_trusted`."""
        ...


def import_for(file: Path, options: TrustingOptions, instead: str, *names: str) -> list[Any]:
    """Modules of torch and ultralytics, which are about to load a file that is trusted; torch has its threads.

    Args:
        file: of the model.
        options: how it runs, and where it may lie.
        instead: what to choose where they are not installed.
        names: of the modules.

    Raises:
        ModelError: there is no such file, it is not trusted, or torch or ultralytics is not installed.
    """
    if not file.is_file():
        raise ModelError(f"{file} does not exist")  # ultralytics would try to download it
    check_trusted(file, options.trusted_folder)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        torch = importlib.import_module("torch")
        modules = [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise ModelError(
            f"{file} needs ultralytics and torch, which are not installed ({error}): "
            f"run python3 deploy/desk/setup.py torch, or choose {instead}"
        ) from error
    torch.set_num_threads(options.threads)
    return modules


def read_safely(file: Path) -> None:
    """Read a network of ultralytics' own, whose classes its allow-list knows; raises whatever torch and pickle do."""
    read = importlib.import_module("ultralytics.nn.tasks").torch_safe_load
    if "safe_only" in inspect.signature(read).parameters:
        read(file, safe_only=True)


def check_trusted(file: Path, folder: Path | None) -> None:
    """Refuse a file that may run code unless it lies in the trusted folder, which not everybody may write to.

    Raises:
        ModelError: it lies elsewhere, or the folder is no such folder.
    """
    path = file.resolve()
    if folder is None or folder.resolve() not in path.parents:
        raise ModelError(
            f"{file} is a pickle, which can run code: it is loaded from the trusted folder only "
            f"(trusted_dir = {folder or 'none'}); move it there, or export it to .onnx"
        )
    for place in (path, *path.parents[: len(path.relative_to(folder.resolve()).parts)]):
        if place.stat().st_mode & stat.S_IWOTH:
            raise ModelError(f"{file} is a pickle, which can run code, and everybody may write to {place}: chmod o-w")
