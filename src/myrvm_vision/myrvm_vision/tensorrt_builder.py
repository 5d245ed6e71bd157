"""Builds a TensorRT engine on the device from an ONNX file. Not tried on a Jetson; see `tensorrt_engine`.

Source: NVIDIA TensorRT 10 documentation, "Python API: Importing a Model Using the ONNX Parser, Building an Engine".
"""

from __future__ import annotations

import ast
import time
from pathlib import Path
from typing import Any

import onnxruntime
from myrvm_core.errors import ModelError

from myrvm_vision.engine import one_line
from myrvm_vision.tensorrt_engine import Cuda, find_tensorrt, packed

SMALLEST_PX = 32
WORKSPACE_BYTES = 1 << 30  # an Orin Nano's 8 GB are for everything
BROKEN = "10.2.0"  # of TensorRT: builds engines that give wrong results (ultralytics pull request 24367)


def build(source: Path, half: bool) -> tuple[bytes, dict[str, Any]]:
    """Build an engine; takes minutes.

    Args:
        source: an ONNX file that ultralytics exported.
        half: whether it may calculate with half precision.

    Returns:
        The file's content, and what it was built with: TensorRT's version, GPU, precision, seconds.

    Raises:
        ModelError: there is no TensorRT or no GPU, or it cannot be built.
    """
    tensorrt, cuda = find_tensorrt(), Cuda()
    cuda.close()
    if tensorrt.__version__.startswith(BROKEN):
        raise ModelError(f"TensorRT {tensorrt.__version__} builds engines that give wrong results; install another")
    half_flag = getattr(tensorrt.BuilderFlag, "FP16", None)
    if half and half_flag is None:
        raise ModelError(
            f"TensorRT {tensorrt.__version__} takes the precision from the file: export the ONNX with half precision"
        )
    metadata = _metadata(source)
    begun = time.monotonic()
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(source.read_bytes()):
        first = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise ModelError(f"{source} is not a model that TensorRT {tensorrt.__version__} takes: {first}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if half:
        config.set_flag(half_flag)
    network_input = network.get_input(0)
    if -1 in tuple(network_input.shape):
        largest = (1, 3, *ast.literal_eval(metadata["imgsz"]))
        smallest = tuple(
            side if side > 0 else least
            for side, least in zip(network_input.shape, (1, 3, SMALLEST_PX, SMALLEST_PX), strict=True)
        )
        profile = builder.create_optimization_profile()
        profile.set_shape(network_input.name, smallest, largest, largest)
        config.add_optimization_profile(profile)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise ModelError(f"{source}: TensorRT {tensorrt.__version__} could not build an engine on {cuda.gpu}")
    built: dict[str, Any] = {
        "from": source.name, "tensorrt": tensorrt.__version__, "gpu": cuda.gpu, "half": half,
        "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip
    return packed(metadata | {"built": built}, bytes(serialized)), built


def _metadata(source: Path) -> dict[str, str]:
    try:
        session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no public base class
        raise ModelError(f"{source} is not a model that ONNX Runtime loads: {one_line(error)}") from error
    return dict(session.get_modelmeta().custom_metadata_map)
