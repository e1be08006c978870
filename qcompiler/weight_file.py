"""Weights of a model in a file of their own, mapped where they are read and never held in memory.

onnxruntime maps external weights as well, and copies only those that it packs; arrays that are handed to it are copied
once more for each session.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import onnx_ir as ir

from qcompiler.errors import OutputError

if TYPE_CHECKING:
    import onnx

SMALLEST = 1 << 16
"""Bytes from which on a weight goes to the file: what shape inference or a fusion reads is smaller."""

_FILE_NAME = "weights.bin"
_ALIGNMENT = 4096
_CHUNK = 1 << 24


class WeightFile:
    """A temporary file of weights, gone when the last tensor that lies in it is."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="qcompile-weights-", ignore_cleanup_errors=True)
        self._end = 0

    def add(self, source: memoryview, name: str, dtype: ir.DataType, shape: ir.Shape) -> ir.ExternalTensor:
        """Copy the bytes of a tensor to the end of the file.

        Raises:
            OSError: No space is left.
        """
        start = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        with (Path(self._folder.name) / _FILE_NAME).open("ab") as file:
            file.write(bytes(start - self._end))
            for at in range(0, len(source), _CHUNK):
                file.write(source[at : at + _CHUNK])
        self._end = start + len(source)
        tensor = ir.ExternalTensor(
            _FILE_NAME, start, len(source), dtype, shape=shape, name=name, base_dir=self._folder.name
        )
        tensor.meta["file"] = self  # the folder lives as long as its tensors do
        return tensor


def move_out(model: ir.Model, source: memoryview, spans: Mapping[str, tuple[int, int]]) -> None:
    """Let the initializers named in `spans` be tensors of a new WeightFile.

    Args:
        source: What the spans, (begin, end), refer to.

    Raises:
        OutputError: The temporary folder cannot hold them.
    """
    if not spans:
        return
    try:
        file = WeightFile()
        for name, (begin, end) in spans.items():
            value = model.graph.initializers[name]
            old = value.const_value
            assert old is not None
            value.const_value = file.add(source[begin:end], name, old.dtype, ir.Shape(old.shape.numpy()))
    except OSError as error:
        size = sum(end - begin for begin, end in spans.values()) >> 20
        message = f"weights of {size} MiB cannot be written: {error.strerror or error}"
        raise OutputError(message, where="temporary folder", hint="set TMPDIR to one with space") from error


def fits(tensor: onnx.TensorProto, size: int) -> bool:
    """Whether a tensor of this type and shape has so many bytes; False for types that are not plain numbers."""
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        return False
    if dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING) or dtype.bitwidth < 8:
        return False
    elements = 1
    for dim in tensor.dims:
        elements *= dim
    return elements * dtype.bitwidth == size * 8


def forget_pages(tensor: ir.TensorProtocol | None) -> None:
    """Give back the memory of a mapped tensor that was read; it is mapped again where it is needed."""
    raw = tensor.raw if isinstance(tensor, ir.ExternalTensor) else None
    if raw is not None and hasattr(raw, "madvise"):
        raw.madvise(mmap.MADV_DONTNEED)


def write_tensor(tensor: ir.TensorProtocol, file: IO[bytes]) -> None:
    """Append the bytes of `tensor`."""
    tensor.tofile(file)  # type: ignore[attr-defined]  # every tensor of onnx_ir has it, its protocol does not
    forget_pages(tensor)
