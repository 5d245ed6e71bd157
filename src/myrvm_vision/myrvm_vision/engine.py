"""The interface of inference engines, and the engine for a model file.

Engines are plug-ins: classes in the entry point group `myrvm_vision.engines`, made with a file and `EngineOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from myrvm_core.errors import ImageError, ModelError
from myrvm_core.verdict import Box, Detection
from numpy.typing import NDArray

from myrvm_vision import plug_ins
from myrvm_vision.postprocess import Limits

GROUP = "myrvm_vision.engines"
AUTO = "auto"


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
    """How an engine runs.

    Args:
        threads: of the forward pass.
        limits: what is kept of its output.
        trusted_folder: where files may be that can run code when they are loaded (`.pt`); None: nowhere.
    """

    threads: int = 2
    limits: Limits = field(default_factory=Limits)
    trusted_folder: Path | None = None


class Engine(Protocol):
    """A network that finds objects in pictures. Used by one thread at a time, not always by the same."""

    def load(self) -> None:
        """Load the model and run it once, so that the first picture does not wait.

        Raises:
            ModelError: one line that says which file and why.
        """
        ...

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Objects in a picture: height x width x 3, BGR, uint8; boxes in the picture's own pixels.

        Raises:
            ModelError: the network failed, or is not loaded.
            ImageError: that is no such picture.
        """
        ...

    def describe(self) -> EngineDescription:
        """What the model says of itself; after `load`."""
        ...

    def close(self) -> None:
        """Release the model. May be called again."""
        ...


class EngineClass(Protocol):
    """What an entry point names. Its module imports what the machine may lack (torch, TensorRT) in `load` only."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files that `auto` gives to this engine."""
        ...

    def __call__(self, file: Path, options: EngineOptions) -> Engine:
        """An engine for a file, not loaded yet."""
        ...


def installed() -> dict[str, EngineClass]:
    """The engines by name.

    Raises:
        ModelError: one of them cannot be imported.
    """
    return plug_ins.installed(GROUP, "engine")


def make_engine(file: Path, kind: str = AUTO, options: EngineOptions | None = None) -> Engine:
    """An engine for a model file, not loaded yet.

    Args:
        file: of the model.
        kind: name of an engine, or `auto` for the one that takes files with this suffix.
        options: how it runs.

    Raises:
        ModelError: there is no such engine, or none takes such a file.
    """
    engines = installed()
    if kind == AUTO:
        takers = {suffix: name for name, engine in engines.items() for suffix in engine.suffixes}
        if file.suffix not in takers:
            raise ModelError(f"{file}: suffix {file.suffix!r} is not a model's; allowed: {', '.join(sorted(takers))}")
        kind = takers[file.suffix]
    if kind not in engines:
        raise ModelError(f"engine {kind!r} is not known; allowed: {AUTO}, {', '.join(engines)}")
    return engines[kind](file, options or EngineOptions())


class Renamed:
    """An `Engine` whose classes are called otherwise than its model calls them.

    Args:
        engine: loaded.
        class_map: our name by the model's; a name that is not in it stays.

    Raises:
        ModelError: it names a class that the model does not have.
    """

    def __init__(self, engine: Engine, class_map: Mapping[str, str]) -> None:
        known = engine.describe().class_names
        if unknown := sorted(class_map.keys() - set(known)):
            raise ModelError(f"class_map names {', '.join(unknown)}; the model knows {', '.join(known)}")
        self._engine, self._class_map = engine, class_map

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """See `Engine`."""
        found = self._engine.infer(image)
        named = (replace(one, class_name=self._name(one.class_name)) for one in found.detections)
        return replace(found, detections=tuple(named))

    def describe(self) -> EngineDescription:
        """See `Engine`."""
        description = self._engine.describe()
        return replace(description, class_names=tuple(map(self._name, description.class_names)))

    def load(self) -> None:
        """See `Engine`."""
        self._engine.load()

    def close(self) -> None:
        """See `Engine`."""
        self._engine.close()

    def _name(self, name: str) -> str:
        return self._class_map.get(name, name)


def rename(engine: Engine, class_map: Mapping[str, str]) -> Engine:
    """The engine with its classes called as `class_map` says (`Renamed`)."""
    return Renamed(engine, class_map) if class_map else engine


def check_picture(image: NDArray[np.uint8]) -> None:
    """Refuse what is no picture.

    Raises:
        ImageError: says what it is.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype != np.uint8:
        shape = " x ".join(map(str, image.shape))
        raise ImageError(f"picture of {shape} {image.dtype} is not allowed: height x width x 3, BGR, uint8")


def to_detections(rows: NDArray[np.float32], class_names: tuple[str, ...]) -> tuple[Detection, ...]:
    """Detections from rows of x_min, y_min, x_max, y_max, score, class number."""
    return tuple(
        Detection(class_names[int(number)], int(number), score, Box(x_min, y_min, x_max, y_max))
        for x_min, y_min, x_max, y_max, score, number in rows.tolist()
    )


def one_line(error: BaseException) -> str:
    """What a library says, as one line of bounded length."""
    return " ".join(str(error).split())[:200] or type(error).__name__
