"""A `.pt` of the shipped network: its weights put back into ultralytics' model of the same architecture."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from myrvm_core import paths
from myrvm_vision import model_store

ARCHITECTURE = "yolov5n.yaml"
SIZE_PX = 320


def write(file: Path) -> Path:
    """Write the checkpoint; gives the file. Needs the torch extra."""
    import onnx
    import torch
    import ultralytics

    shipped, _ = model_store.find_model(paths.home() / "models")
    exported = onnx.load(shipped)
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in exported.graph.initializer}
    names = ast.literal_eval({one.key: one.value for one in exported.metadata_props}["names"])
    model: Any = ultralytics.YOLO(ARCHITECTURE, task="detect")
    network = ultralytics.nn.tasks.DetectionModel(ARCHITECTURE, nc=len(names), verbose=False).eval().fuse(verbose=False)
    # The export stores equal tensors once.
    stored |= {node.output[0]: stored[node.input[0]] for node in exported.graph.node if node.op_type == "Identity"}
    for name, layer in network.named_modules():
        for part in ("weight", "bias"):
            if getattr(layer, part, None) is not None and "dfl" not in name:
                setattr(layer, part, torch.nn.Parameter(torch.from_numpy(stored[f"{name}.{part}"].copy())))
    network.names, network.args = names, model.model.args
    model.model, model.ckpt = network, {"train_args": {"imgsz": SIZE_PX}}
    model.save(file)
    return file
