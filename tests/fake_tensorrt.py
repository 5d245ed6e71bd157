"""A stand-in for TensorRT 10 and cuda-python, for tests only: "engines" hold an ONNX file that ONNX Runtime runs.

Memory "of the GPU" is a table of blocks by made-up addresses, so that a host address handed to the wrong side is seen.
Names and behaviour as NVIDIA's documentation of the Python API of TensorRT 10 and of cuda-python says.
"""

from __future__ import annotations

import ctypes
import sys
from enum import IntEnum
from importlib.machinery import ModuleSpec
from math import prod
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

PREFIX = b"engine of the stand-in\n"
GPU = "Orin (stand-in)"


class CudaError(IntEnum):
    """`cudaError_t`."""

    cudaSuccess = 0  # noqa: N815
    cudaErrorInvalidValue = 1  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815


class Gpu:
    """What `cuda.bindings.runtime` gives; `blocks` are those that nobody has freed."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytearray] = {}
        self.streams: set[int] = set()
        self.memory = 1 << 30
        self._next = 0x7_0000_0000
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return CudaError(0), SimpleNamespace(name=GPU.encode())

    def cudaStreamCreate(self) -> tuple[Any, ...]:
        self._next += 1
        self.streams.add(self._next)
        return CudaError(0), self._next

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        self.streams.remove(stream)
        return (CudaError(0),)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        return (CudaError(0 if stream in self.streams else 1),)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if sum(map(len, self.blocks.values())) + size > self.memory:
            return CudaError(2), None
        self._next += 1 << 28
        self.blocks[self._next] = bytearray(size)
        return CudaError(0), self._next

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        del self.blocks[address]
        return (CudaError(0),)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Any, ...]:
        device = target if kind == 1 else source
        if stream not in self.streams or device not in self.blocks or size > len(self.blocks[device]):
            return (CudaError(1),)
        if kind == 1:
            self.blocks[target][:size] = ctypes.string_at(source, size)
        else:
            ctypes.memmove(target, bytes(self.blocks[source][:size]), size)
        return (CudaError(0),)


class Engine:
    """`ICudaEngine` and its `IExecutionContext`."""

    def __init__(self, gpu: Gpu, content: bytes) -> None:
        self._gpu = gpu
        self._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self._tensors = {one.name: one for one in (*self._session.get_inputs(), *self._session.get_outputs())}
        self._input = self._session.get_inputs()[0].name
        size = eval(self._session.get_modelmeta().custom_metadata_map["imgsz"])
        self._largest = (1, 3, *size)
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] | None = None
        self._output: np.ndarray | None = None

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, number: int) -> str:
        return list(self._tensors)[number]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == self._input else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> str:
        return self._tensors[name].type

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(1, 3, 32, 32), self._largest, self._largest]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self._shape is not None and name != self._input:
            return self._run(np.zeros(self._shape, nptype(self._tensors[self._input].type))).shape
        return tuple(side if isinstance(side, int) else -1 for side in self._tensors[name].shape)

    def create_execution_context(self) -> Engine:
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name != self._input or any(side > most for side, most in zip(shape, self._largest, strict=True)):
            return False
        self._shape = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in self._tensors

    def execute_async_v3(self, stream: int) -> bool:
        if self._shape is None or stream not in self._gpu.streams or self._addresses.keys() != self._tensors.keys():
            return False
        dtype = nptype(self._tensors[self._input].type)
        block = self._gpu.blocks[self._addresses[self._input]]
        sent = np.frombuffer(block, dtype, prod(self._shape)).reshape(self._shape)
        output = self._run(sent)
        name = self._session.get_outputs()[0].name
        self._gpu.blocks[self._addresses[name]][: output.nbytes] = output.tobytes()
        return True

    def _run(self, sent: np.ndarray) -> np.ndarray:
        return np.asarray(self._session.run(None, {self._input: sent})[0])


def nptype(number: str) -> Any:
    """`tensorrt.nptype`."""
    return {"tensor(float)": np.float32, "tensor(float16)": np.float16}[number]


class Parser:
    """`OnnxParser`."""

    def __init__(self, network: SimpleNamespace, logger: Any) -> None:
        self._network = network
        self.num_errors = 0

    def parse(self, content: bytes) -> bool:
        try:
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception:
            self.num_errors = 1
            return False
        first = session.get_inputs()[0]
        shape = tuple(side if isinstance(side, int) else -1 for side in first.shape)
        self._network.content = content
        self._network.get_input = lambda number: SimpleNamespace(name=first.name, shape=shape)
        return True

    def get_error(self, number: int) -> Any:
        return SimpleNamespace(desc=lambda: "no ONNX")


class Builder:
    """`Builder`, its configuration and its profiles."""

    def __init__(self, logger: Any) -> None:
        self.flags: list[str] = []
        self.profiles: list[tuple[Any, ...]] = []

    def create_network(self, flags: int) -> SimpleNamespace:
        return SimpleNamespace()

    def create_builder_config(self) -> SimpleNamespace:
        return SimpleNamespace(
            set_flag=self.flags.append,
            add_optimization_profile=lambda profile: 0,
            set_memory_pool_limit=lambda pool, size: None,
        )

    def create_optimization_profile(self) -> SimpleNamespace:
        return SimpleNamespace(set_shape=self._set_shape)

    def _set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        smallest, usual, largest = shapes
        assert all(low <= middle <= high for low, middle, high in zip(smallest, usual, largest, strict=True))
        self.profiles.append((name, *shapes))

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        dynamic = -1 in network.get_input(0).shape
        return PREFIX + network.content if dynamic == bool(self.profiles) else None


def install(patch: pytest.MonkeyPatch, version: str = "10.3.0") -> Gpu:
    """Put the stand-in in place of both packages; gives its GPU."""
    gpu = Gpu()
    tensorrt: Any = ModuleType("tensorrt")
    tensorrt.__version__ = version
    tensorrt.__spec__ = ModuleSpec("tensorrt", None)
    tensorrt.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, severity: None})
    tensorrt.TensorIOMode = SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT")
    tensorrt.BuilderFlag = SimpleNamespace(FP16="FP16")
    tensorrt.MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    tensorrt.nptype = nptype

    def deserialize(content: bytes) -> Engine | None:
        return Engine(gpu, content[len(PREFIX) :]) if content.startswith(PREFIX) else None

    tensorrt.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=deserialize)
    tensorrt.Builder, tensorrt.OnnxParser = Builder, Parser
    patch.setitem(sys.modules, "tensorrt", tensorrt)
    patch.setitem(sys.modules, "cuda.bindings.runtime", gpu)
    return gpu
