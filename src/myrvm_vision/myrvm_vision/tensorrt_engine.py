"""TensorRT 10, for `.engine` files that `rvm model build` (or ultralytics) built on this device. Not tried on a Jetson.

Written against the documented Python API of TensorRT 10 and cuda-python; what is tested runs on a stand-in of both
(`tests/fake_tensorrt.py`), and each name that is called was looked up in the binding of 10.16. A file is, as
ultralytics writes it: length of the metadata (4 bytes, little-endian), metadata as JSON, the serialised engine.
Source: NVIDIA TensorRT documentation, "Python API", and "Migrating Python Code from TensorRT 8.x to 10.x".
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from myrvm_core.errors import ModelError
from numpy.typing import NDArray

from myrvm_vision.tensor_engine import OpenedModel, TensorEngine

LENGTH_BYTES = 4
BUILD_AGAIN = "an engine runs only where it was built: build it here with rvm model build"


def find_tensorrt() -> Any:
    """The module `tensorrt`.

    Raises:
        ModelError: it is not installed, or is too old.
    """
    try:
        tensorrt = importlib.import_module("tensorrt")
    except ImportError as error:
        raise ModelError(f"TensorRT is not installed ({error}): on a Jetson apt install python3-libnvinfer") from error
    if int(tensorrt.__version__.split(".")[0]) < 10:
        raise ModelError(f"TensorRT {tensorrt.__version__} is installed; 10 or later is needed")
    return tensorrt


class Cuda:
    """Memory and one stream of the first GPU, by cuda-python.

    Raises:
        ModelError: cuda-python is not installed, or there is no GPU.
    """

    def __init__(self) -> None:
        try:
            self._api = importlib.import_module("cuda.bindings.runtime")
        except ImportError:
            try:
                self._api = importlib.import_module("cuda.cudart")  # as it was called before 12.6
            except ImportError as error:
                raise ModelError(f"cuda-python is not installed ({error}): pip install cuda-python") from error
        kinds = self._api.cudaMemcpyKind
        self._to_device, self._to_host = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
        self.gpu = self._call("cudaGetDeviceProperties", 0).name.rstrip(b"\0").decode()
        self._stream = self._call("cudaStreamCreate")

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        return int(self._stream)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes."""
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        """Give them back."""
        self._call("cudaFree", address)

    def send(self, address: int, array: NDArray[Any]) -> None:
        """Copy to the GPU, in the order of the stream."""
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, self._to_device, self._stream)

    def fetch(self, array: NDArray[Any], address: int) -> None:
        """Copy from the GPU, in the order of the stream."""
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, self._to_host, self._stream)

    def wait(self) -> None:
        """Until the stream is done."""
        self._call("cudaStreamSynchronize", self._stream)

    def close(self) -> None:
        """Give the stream back."""
        self._call("cudaStreamDestroy", self._stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._api, name)(*arguments)
        if int(error) != 0:
            raise ModelError(f"CUDA: {name} failed: {getattr(error, 'name', error)}")
        return values[0] if values else None


@dataclass
class _Buffer:
    """Memory of one tensor, on the GPU and (`host`, for an output) here."""

    name: str
    address: int
    size: int  # bytes
    dtype: Any
    host: NDArray[Any] = field(default_factory=lambda: np.empty(0))


class TensorRtEngine(TensorEngine):
    """An `Engine` for what TensorRT built."""

    name: ClassVar = "tensorrt"
    suffixes: ClassVar = (".engine",)
    library: ClassVar = "TensorRT"
    _cuda: Cuda | None = None
    _context: Any = None
    _engine: Any = None
    _input: _Buffer | None = None
    _output: _Buffer | None = None
    _shape: tuple[int, ...] = ()
    _addresses: tuple[int, ...] = ()

    def open_model(self) -> OpenedModel:
        """See `TensorEngine`."""
        metadata, serialized = read(self.file)
        self._tensorrt = tensorrt = find_tensorrt()
        self._cuda = cuda = Cuda()
        built = metadata.get("built", {})
        for name, value in {"tensorrt": tensorrt.__version__, "gpu": cuda.gpu}.items():
            if built.get(name, value) != value:
                raise ModelError(f"{self.file} was built for {built[name]}, here is {value}; {BUILD_AGAIN}")
        self._logger = tensorrt.Logger(tensorrt.Logger.ERROR)  # must outlive the runtime
        self._runtime = tensorrt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(serialized)
        if self._engine is None:
            raise ModelError(
                f"{self.file} is not taken by TensorRT {tensorrt.__version__} on {cuda.gpu}; {BUILD_AGAIN}"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ModelError(f"{self.file}: the GPU's memory does not suffice for it")
        return self._make_buffers(metadata, cuda)

    def _make_buffers(self, metadata: dict[str, Any], cuda: Cuda) -> OpenedModel:
        engine, mode = self._engine, self._tensorrt.TensorIOMode.INPUT
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == mode]
        outputs = [name for name in names if name not in inputs]
        if len(inputs) != 1 or not outputs:
            raise ModelError(f"{self.file} has {len(inputs)} inputs, {len(outputs)} outputs; allowed: one input")
        shape = tuple(engine.get_tensor_shape(inputs[0]))
        largest = tuple(engine.get_tensor_profile_shape(inputs[0], 0)[2]) if -1 in shape else shape
        if not self._context.set_input_shape(inputs[0], largest):
            raise ModelError(f"{self.file}: TensorRT refuses its own largest input {largest}")
        self._input = self._buffer(cuda, inputs[0], largest)
        self._output = self._buffer(cuda, outputs[0], tuple(self._context.get_tensor_shape(outputs[0])))
        for name in outputs[1:]:  # every output needs an address, wanted or not
            self._buffer(cuda, name, tuple(self._context.get_tensor_shape(name)))
        self._shape = largest
        sides = tuple(None if side < 0 else int(side) for side in shape)
        return OpenedModel(_as_text(metadata), sides, self._input.dtype)

    def _buffer(self, cuda: Cuda, name: str, largest: tuple[int, ...]) -> _Buffer:
        if min(largest) < 0:
            raise ModelError(f"{self.file}: {name} has no bounded size: {largest}")
        dtype = self._tensorrt.nptype(self._engine.get_tensor_dtype(name))
        size = prod(largest) * np.dtype(dtype).itemsize
        buffer = _Buffer(name, cuda.allocate(size), size, dtype)
        self._addresses += (buffer.address,)
        self._context.set_tensor_address(name, buffer.address)
        return buffer

    def run_model(self, network_input: NDArray[Any]) -> NDArray[Any]:
        """See `TensorEngine`."""
        if self._cuda is None or self._input is None or self._output is None:
            raise ModelError("it is not loaded")
        cuda, source, target = self._cuda, self._input, self._output
        if network_input.shape != self._shape:
            fits = network_input.nbytes <= source.size and self._context.set_input_shape(
                source.name, network_input.shape
            )
            if not fits:
                raise ModelError(f"input of {network_input.shape} is not among the sizes that it was built for")
            self._shape = network_input.shape
            target.host = np.empty(0)
        if target.host.size == 0:
            target.host = np.empty(tuple(self._context.get_tensor_shape(target.name)), target.dtype)
        cuda.send(source.address, network_input)
        if not self._context.execute_async_v3(cuda.stream):
            raise ModelError("TensorRT could not run it")
        cuda.fetch(target.host, target.address)
        cuda.wait()
        return target.host

    def close_model(self) -> None:
        """See `TensorEngine`."""
        cuda, self._cuda = self._cuda, None
        self._context = self._engine = None
        if cuda is not None:
            for address in self._addresses:
                cuda.free(address)
            cuda.close()
        self._input = self._output = None
        self._addresses = ()


def read(file: Path) -> tuple[dict[str, Any], bytes]:
    """Metadata and serialised engine.

    Raises:
        ModelError: it cannot be read, or has no metadata.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    end = LENGTH_BYTES + length
    try:
        metadata = json.loads(content[LENGTH_BYTES:end])
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict) or len(content) <= end:
        raise ModelError(f"{file} has no metadata before its engine, or is cut; build it with rvm model build")
    return metadata, content[end:]


def packed(metadata: dict[str, Any], serialized: bytes) -> bytes:
    """A file's content."""
    header = json.dumps(metadata).encode()
    return len(header).to_bytes(LENGTH_BYTES, "little") + header + serialized


def _as_text(metadata: dict[str, Any]) -> dict[str, str]:
    """As in an ONNX file, where every value is text; JSON has made the numbers of classes text."""
    names = metadata.get("names")
    if isinstance(names, dict):
        metadata = metadata | {"names": {int(number): name for number, name in names.items()}}
    return {key: str(value) for key, value in metadata.items()}
