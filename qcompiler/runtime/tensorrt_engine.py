"""A bundle's model.onnx on TensorRT, which is imported, and CUDA opened, only when an engine is made."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import ModelError, UsageError
from qcompiler.runtime.bundle_folder import BundleFolder
from qcompiler.runtime.cuda import Cuda
from qcompiler.runtime.signature import Array
from qcompiler.runtime.tensorrt_plan import open_plan


def unavailable() -> str:
    """Why TensorRT can't be used here; empty where it can."""
    if find_spec("tensorrt") is None:
        return "the package tensorrt is not installed"
    try:
        Cuda()
    except OSError as error:
        return str(error)
    return ""


class TensorRTEngine:
    """An engine with its buffers on the device.

    Raises:
        ModelError: TensorRT refuses the graph, or the engine's inputs and outputs are not the manifest's.
    """

    runtime = "tensorrt"

    def __init__(self, bundle: BundleFolder, cache: Path) -> None:
        self._trt: Any = import_module("tensorrt")
        self._cuda = Cuda()
        self._logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._bundle = bundle
        self._plan, self._engine = open_plan(self._trt, self._logger, bundle, cache, self._cuda.capability())
        self._check()
        self._context = self._engine.create_execution_context()
        self._stream = self._cuda.stream()
        self._buffers: dict[str, tuple[int, int]] = {}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, copied from the device."""
        for item in self._bundle.inputs:
            array = np.ascontiguousarray(feeds[item.name])
            if not self._context.set_input_shape(item.name, tuple(array.shape)):
                raise UsageError(f"shape {list(array.shape)} is outside the engine's profile",
                                 where=f"input {item.name!r}", hint="compile with --shape min,opt,max")  # fmt: skip
            self._cuda.upload(self._buffer(item.name, array.nbytes), array, self._stream)
        outputs = {}
        for item in self._bundle.outputs:
            shape = tuple(self._context.get_tensor_shape(item.name))
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(item.name)))
            outputs[item.name] = np.empty(shape, dtype)
            self._buffer(item.name, outputs[item.name].nbytes)
        if not self._context.execute_async_v3(self._stream):
            raise ModelError("TensorRT could not run the engine", where=str(self._plan))
        for name, array in outputs.items():
            self._cuda.download(array, self._buffers[name][0], self._stream)
        self._cuda.wait(self._stream)
        return outputs

    def _buffer(self, name: str, count: int) -> int:
        pointer, size = self._buffers.get(name, (0, -1))
        if size < count:
            if size >= 0:
                self._cuda.wait(self._stream)
                self._cuda.free(pointer)
            pointer = self._cuda.allocate(count)
            self._buffers[name] = pointer, count
            self._context.set_tensor_address(name, pointer)
        return pointer

    def _check(self) -> None:
        wanted = sorted(item.name for item in (*self._bundle.inputs, *self._bundle.outputs))
        found = sorted(self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors))
        if wanted != found:
            message = f"the engine has the tensors {', '.join(found)}; manifest.json says {', '.join(wanted)}"
            raise ModelError(message, where=str(self._plan), hint="delete it: it is another model's")
