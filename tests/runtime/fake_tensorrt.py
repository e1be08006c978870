"""A stand-in for the module `tensorrt` and for CUDA: it keeps the calls' order and computes with onnxruntime.

It follows the Python API of TensorRT 10 as its documentation states it; that the real library takes these calls is not
tested here.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort

BUILT: list[str] = []
"""Models that were built, in order."""

__version__ = "10.3.0"
_DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class Logger:
    ERROR = 1

    def __init__(self, severity: int) -> None:
        self.severity = severity


class NetworkDefinitionCreationFlag:
    STRONGLY_TYPED = 1


class MemoryPoolType:
    WORKSPACE = 0


class Network:
    path = ""


class Message:
    def desc(self) -> str:
        return "no such operator"


class OnnxParser:
    num_errors = 1

    def __init__(self, network: Network, logger: Logger) -> None:
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        self._network.path = path
        return "refused" not in path

    def get_error(self, index: int) -> Message:
        return Message()


class Profile(dict[str, Any]):
    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        self[name] = (low, best, high)


class Config:
    def __init__(self) -> None:
        self.profiles: list[Profile] = []
        self.workspace = 0

    def set_memory_pool_limit(self, pool: int, size: int) -> None:
        self.workspace = size

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profiles.append(profile)


class Builder:
    def __init__(self, logger: Logger) -> None: ...

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        BUILT.append(network.path)
        largest = config.profiles[0]["x"][2][0] if config.profiles else 0
        return f"plan {__version__} {largest} {network.path}".encode()


class Runtime:
    def __init__(self, logger: Logger) -> None: ...

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        word, version, largest, path = plan.decode().split(" ", 3) if plan.count(b" ") > 2 else ("", "", "0", "")
        return Engine(path, int(largest)) if (word, version) == ("plan", __version__) else None


class Engine:
    def __init__(self, path: str, largest: int) -> None:
        self.session, self.largest = ort.InferenceSession(path), largest
        self.inputs, self.outputs = self.session.get_inputs(), self.session.get_outputs()
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return str([*self.inputs, *self.outputs][index].name)

    def get_tensor_dtype(self, name: str) -> str:
        return str(next(item.type for item in self.outputs if item.name == name))

    def create_execution_context(self) -> Context:
        return Context(self)


def nptype(dtype: str) -> Any:
    return _DTYPES[dtype]


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return shape[0] <= self.engine.largest

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shapes["x"][0], 3) if name == "y" else (self.shapes["x"][0],)

    def execute_async_v3(self, stream: int) -> bool:
        feeds = {
            name: np.frombuffer(Cuda.memory[self.addresses[name]], np.float32, int(np.prod(shape))).reshape(shape)
            for name, shape in self.shapes.items()
        }
        for item, array in zip(self.engine.outputs, self.engine.session.run(None, feeds), strict=True):
            buffer = Cuda.memory[self.addresses[item.name]]
            assert len(buffer) >= array.nbytes, "the output's buffer is too small"
            buffer[: array.nbytes] = array.tobytes()
        return True


class Cuda:
    memory: ClassVar[dict[int, bytearray]] = {}
    sm = "87"

    def capability(self) -> str:
        return self.sm

    def stream(self) -> int:
        return 1

    def allocate(self, count: int) -> int:
        pointer = max(self.memory, default=0) + 1
        self.memory[pointer] = bytearray(count)
        return pointer

    def free(self, pointer: int) -> None:
        del self.memory[pointer]

    def upload(self, pointer: int, array: Any, stream: int) -> None:
        self.memory[pointer][: array.nbytes] = array.tobytes()

    def download(self, array: Any, pointer: int, stream: int) -> None:
        array.ravel().view(np.uint8)[:] = np.frombuffer(self.memory[pointer], np.uint8)[: array.nbytes]

    def wait(self, stream: int) -> None: ...
