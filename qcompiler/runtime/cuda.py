"""The few calls of CUDA's runtime library that running an engine takes, through ctypes: no Python package needed."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

from qcompiler.errors import ModelError
from qcompiler.runtime.signature import Array

_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12")
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, Minor


class Cuda:
    """CUDA's runtime on device 0.

    Raises:
        OSError: The library is not there, or no device answers.
    """

    def __init__(self) -> None:
        self._library = _load()
        count = ctypes.c_int()
        if self._library.cudaGetDeviceCount(ctypes.byref(count)) != 0 or count.value < 1:
            raise OSError("no CUDA device answers")

    def capability(self) -> str:
        """Compute capability as "87" (Orin)."""
        parts = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, 0)
            parts.append(str(value.value))
        return "".join(parts)

    def stream(self) -> int:
        """A new stream."""
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(handle))
        return handle.value or 0

    def allocate(self, count: int) -> int:
        """Device memory of `count` bytes."""
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(count, 1)))
        return pointer.value or 0

    def free(self, pointer: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", ctypes.c_void_p(pointer))

    def upload(self, pointer: int, array: Array, stream: int) -> None:
        """Copy a contiguous array to the device, in order of the stream."""
        source = ctypes.c_void_p(array.ctypes.data)
        self._copy(ctypes.c_void_p(pointer), source, array.nbytes, _TO_DEVICE, stream)

    def download(self, array: Array, pointer: int, stream: int) -> None:
        """Fill a contiguous array from the device, in order of the stream."""
        target = ctypes.c_void_p(array.ctypes.data)
        self._copy(target, ctypes.c_void_p(pointer), array.nbytes, _TO_HOST, stream)

    def wait(self, stream: int) -> None:
        """Wait until the stream is through."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def _copy(self, target: Any, source: Any, count: int, kind: int, stream: int) -> None:
        if count:
            self._call("cudaMemcpyAsync", target, source, ctypes.c_size_t(count), kind, ctypes.c_void_p(stream))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise ModelError(f"CUDA's {name} failed with status {status}", hint="is the device's memory full?")


def _load() -> Any:
    found = ctypes.util.find_library("cudart")
    for name in (*_NAMES, *([found] if found else [])):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("CUDA's runtime library (libcudart) is not there")
