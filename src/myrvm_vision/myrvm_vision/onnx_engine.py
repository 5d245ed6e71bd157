"""ONNX Runtime on the CPU: the default engine."""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar

import numpy as np
import onnxruntime
from myrvm_core.errors import ModelError
from numpy.typing import NDArray

from myrvm_vision.tensor_engine import OpenedModel, TensorEngine

NUMBERS: dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxEngine(TensorEngine):
    """An `Engine` for models that ultralytics exported to ONNX."""

    name: ClassVar = "onnx"
    suffixes: ClassVar = (".onnx",)
    library: ClassVar = "ONNX Runtime"
    _session: Any = None

    def open_model(self) -> OpenedModel:
        """See `TensorEngine`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.options.threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(self.file), options, providers=["CPUExecutionProvider"])
        first = self._session.get_inputs()[0]
        if first.type not in NUMBERS:
            raise ModelError(f"{self.file} has an input of {first.type}; allowed: {', '.join(NUMBERS)}")
        self._input = first.name
        shape = tuple(side if isinstance(side, int) else None for side in first.shape)
        return OpenedModel(self._session.get_modelmeta().custom_metadata_map, shape, NUMBERS[first.type])

    def run_model(self, network_input: NDArray[Any]) -> NDArray[Any]:
        """See `TensorEngine`."""
        return self._session.run(None, {self._input: network_input})[0]

    def load(self) -> None:
        """See `Engine`."""
        super().load()
        return_memory()

    def close_model(self) -> None:
        """See `TensorEngine`."""
        self._session = None
        return_memory()


def return_memory() -> None:
    """Give what loading and closing left in the allocator back to the system: 30 MB, and no growth over many loads."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
