"""A stand-in for the recognition network, for tests only: the colour of the picture decides, green is a mineral bottle.

Same metadata, input and output as an ultralytics export, so that the real engine runs it in a millisecond.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from myrvm_vision import golden

SIZE_PX = 320
CLASSES = ("mineral", "not_empty", "soda", "milk", "yogurt", "dishwasher", "non_mineral")
GREEN, RED, BLUE, GREY = (20, 230, 20), (20, 20, 230), (230, 20, 20), (120, 120, 120)
BOX = (110, 60, 210, 260)  # of all that it sees, px
# One row a class, one column each of red, green, blue: mineral is green, not_empty blue, soda red.
WEIGHTS = np.array([[-1, 1, -1], [-1, -1, 1], [1, -1, -1], *[[-1, -1, -1]] * 4], np.float32)


def picture(colour: tuple[int, int, int], height: int = SIZE_PX, width: int = SIZE_PX) -> NDArray[np.uint8]:
    """A picture of one colour (BGR) with the noise of a sharp one."""
    noise = np.random.default_rng(0).integers(-20, 21, (height, width, 1))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def build(file: Path, fails_on_bright: bool = False, strength: float = 1.0) -> None:
    """Write the network.

    Args:
        file: to write.
        fails_on_bright: it fails on a nearly white picture, as a broken engine would.
        strength: factor of its scores; 0 makes it blind.
    """
    constants = [
        numpy_helper.from_array(WEIGHTS[None] * np.float32(strength), "weights"),
        numpy_helper.from_array(np.array([1, 3, 1], np.int64), "column"),
        numpy_helper.from_array(np.array([[[160.0], [160.0], [100.0], [200.0]]], np.float32), "box"),
        numpy_helper.from_array(np.array(0.0, np.float32), "zero"),
        numpy_helper.from_array(np.array(1.0, np.float32), "one"),
        numpy_helper.from_array(np.array(0.03, np.float32), "margin"),
    ]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Reshape", ["mean", "column"], ["colour"]),
        helper.make_node("MatMul", ["weights", "colour"], ["raw"]),
        helper.make_node("Clip", ["raw", "zero", "one"], ["scores"]),
        helper.make_node("Concat", ["box", "scores"], ["output0" if not fails_on_bright else "sound"], axis=1),
    ]
    if fails_on_bright:
        nodes += [
            helper.make_node("ReduceMax", ["mean"], ["brightest"], keepdims=0),
            helper.make_node("Add", ["brightest", "margin"], ["raised"]),
            helper.make_node("Floor", ["raised"], ["floor"]),
            helper.make_node("Cast", ["floor"], ["index"], to=TensorProto.INT64),
            helper.make_node("Unsqueeze", ["index", "first_axis"], ["indices"]),
            helper.make_node("Gather", ["sound", "indices"], ["output0"], axis=0),
        ]
        constants.append(numpy_helper.from_array(np.array([0], np.int64), "first_axis"))
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE_PX, SIZE_PX])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + len(CLASSES), 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {"names": str(dict(enumerate(CLASSES))), "imgsz": str([SIZE_PX, SIZE_PX]), "stride": "32"}
    helper.set_model_props(model, metadata)
    onnx.save(model, file)


def install(folder: Path, fails_on_bright: bool = False) -> Path:
    """A folder of models whose default is this network, with golden pictures and figures; gives the folder."""
    (folder / golden.FOLDER).mkdir(parents=True, exist_ok=True)
    file = folder / "toy.onnx"
    build(file, fails_on_bright)
    facts = [_golden_picture(folder, *one) for one in (("mineral", GREEN), ("not_empty", BLUE), ("soda", RED))]
    (folder / golden.FOLDER / golden.INDEX).write_text(json.dumps([*facts, _golden_picture(folder, None, GREY)]))
    figures = {"pictures": {f"{name}.png": [[name, 0.745, *BOX]] for name in ("mineral", "not_empty", "soda")}}
    figures["pictures"]["None.png"] = []
    (folder / "manifest.json").write_text(json.dumps({"default": "toy", "models": [entry(file, golden=figures)]}))
    return folder


def entry(file: Path, **more: Any) -> dict[str, Any]:
    """Of the manifest."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"name": file.stem, "version": "1", "file": file.name, "sha256": digest, **more}


def _golden_picture(folder: Path, name: str | None, colour: tuple[int, int, int]) -> dict[str, Any]:
    cv2.imwrite(str(folder / golden.FOLDER / f"{name}.png"), picture(colour))
    return {"file": f"{name}.png", "items": [{"model_class": name, "box": BOX}] if name else []}
