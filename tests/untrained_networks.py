"""Networks as operators bring them, with random weights: YOLOv8, YOLO11, YOLO12 as `.pt` and as ONNX of each kind."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from myrvm_vision.letterbox import Letterbox
from myrvm_vision.postprocess import Limits
from numpy.typing import NDArray

from myrvm_core import paths

ARCHITECTURES = ("yolov8n", "yolo11n", "yolo12n")
CLASSES = ("mineral", "not_empty", "soda")
SIZE_PX = 96
LIMITS = Limits(score=0.35, overlap=0.6, count=30)


@dataclass(frozen=True)
class Export:
    """One kind of ONNX."""

    dynamic: bool
    suppresses: bool
    half: bool

    def __str__(self) -> str:
        words = ("any_size" if self.dynamic else "fixed", "nms" * self.suppresses, "half" * self.half)
        return "-".join(word for word in words if word)


EXPORTS = tuple(
    Export(dynamic, suppresses, half)
    for dynamic in (False, True) for suppresses in (False, True) for half in (False, True)
)  # fmt: skip


# Of any two of the three properties every combination once.
PAIRS = (EXPORTS[0], EXPORTS[3], EXPORTS[5], EXPORTS[6])


def pictures() -> list[NDArray[np.uint8]]:
    """A black picture, and held-out ones, small, in several shapes."""
    files = sorted((paths.home() / "src/myrvm_sim/myrvm_sim/pictures").glob("*.jpg"))[::25]
    shapes = [(120, 160), (96, 96), (160, 120), (97, 203), (33, 61)]
    found = [np.asarray(cv2.imread(str(file)), np.uint8) for file in files]
    resized = [cv2.resize(one, shapes[number % len(shapes)][::-1]) for number, one in enumerate(found)]
    return [np.zeros((120, 160, 3), np.uint8), *(np.asarray(one, np.uint8) for one in resized)]


def checkpoint(architecture: str, file: Path, seed: int = 0) -> Path:
    """Write a `.pt` whose scores spread on both sides of the limit; gives the file. Needs the torch extra."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    import torch
    import ultralytics

    torch.manual_seed(seed)
    model: Any = ultralytics.YOLO(f"{architecture}.yaml", task="detect", verbose=False)
    network = ultralytics.nn.tasks.DetectionModel(f"{architecture}.yaml", nc=len(CLASSES), verbose=False)
    letterbox = Letterbox((SIZE_PX, SIZE_PX))
    batch = torch.from_numpy(np.concatenate([letterbox(one)[0].copy() for one in pictures()]))
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean of what it has seen: without this an untrained network is deaf
            torch.nn.init.constant_(layer.weight, 0.5)  # and not so wild that the last place of a sum decides
    with torch.no_grad():
        network.train()
        network(batch)
        network.eval()
        for branches, spread, middle in ((network.model[-1].cv3, 0.8, -2.0), (network.model[-1].cv2, 2.0, 1.0)):
            for branch in branches:
                branch[-1].register_forward_hook(lambda layer, _, output: _spread(layer, output))
            network(batch)
            for branch in branches:
                branch[-1]._forward_hooks.clear()
                branch[-1].weight *= spread
                branch[-1].bias[:] = middle
    network.names, network.args = dict(enumerate(CLASSES)), model.model.args
    model.model, model.ckpt = network, {"train_args": {"imgsz": SIZE_PX}}
    model.save(file)
    return file


def _spread(layer: Any, output: Any) -> None:
    """Scale a layer so that what it gives has a standard deviation of 1."""
    layer.weight /= output.std()


def export(source: Path, kind: Export) -> Path:
    """Write the ONNX of a checkpoint beside it; gives the file."""
    import ultralytics

    named = shutil.copy(source, source.with_name(f"{source.stem}-{kind}.pt"))
    written = ultralytics.YOLO(named, verbose=False).export(
        format="onnx", imgsz=SIZE_PX, opset=17, simplify=False, device="cpu", verbose=False, dynamic=kind.dynamic,
        nms=True if kind.suppresses else None, quantize=16 if kind.half else None, conf=LIMITS.score,
        iou=LIMITS.overlap, max_det=LIMITS.count,
    )  # fmt: skip
    return Path(written)
