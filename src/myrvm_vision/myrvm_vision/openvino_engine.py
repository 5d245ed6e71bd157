"""OpenVINO on the CPU, for the same `.onnx` files; chosen by name (`engine: openvino`) where it is installed."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import numpy as np
from myrvm_core.errors import ModelError
from numpy.typing import NDArray

from myrvm_vision.tensor_engine import OpenedModel, TensorEngine

NUMBERS: dict[str, Any] = {"f32": np.float32, "f16": np.float16}


class OpenVinoEngine(TensorEngine):
    """An `Engine` for models that ultralytics exported to ONNX."""

    name: ClassVar = "openvino"
    library: ClassVar = "OpenVINO"
    _request: Any = None

    def open_model(self) -> OpenedModel:
        """See `TensorEngine`."""
        try:
            openvino = importlib.import_module("openvino")
        except ImportError as error:
            raise ModelError(
                f"{self.file} needs OpenVINO, which is not installed ({error}): pip install openvino, or engine: onnx"
            ) from error
        core = openvino.Core()
        model = core.read_model(str(self.file))
        settings = {
            "INFERENCE_NUM_THREADS": self.options.threads,
            "PERFORMANCE_HINT": "LATENCY",  # all threads for one picture
            "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where it can: scores off by 0.01 and more
        }
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        number = model.input(0).get_element_type().get_type_name()
        if number not in NUMBERS:
            raise ModelError(f"{self.file} has an input of {number}; allowed: {', '.join(NUMBERS)}")
        shape = tuple(None if side.is_dynamic else int(side.get_length()) for side in model.input(0).partial_shape)
        # Where OpenVINO's reader of ONNX puts the metadata.
        stored = model.get_rt_info(["framework"]).value if model.has_rt_info(["framework"]) else {}
        return OpenedModel(stored, shape, NUMBERS[number])

    def run_model(self, network_input: NDArray[Any]) -> NDArray[Any]:
        """See `TensorEngine`."""
        return self._request.infer({0: network_input}, share_inputs=True, share_outputs=True)[0]

    def close_model(self) -> None:
        """See `TensorEngine`."""
        self._request = None
