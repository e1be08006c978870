"""Names, element types and shapes of a model's inputs and outputs, and feeds checked against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.errors import UsageError

Array = np.ndarray[Any, Any]
Dim = int | str | None

_NUMPY = {
    "float": "float32", "float16": "float16", "double": "float64", "bool": "bool",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip
"""ONNX's word to numpy's; others (texts, bfloat16) are left to the runtime."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output: sizes are numbers, symbols that are the same wherever they stand, or None."""

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Tensor:
        """An entry of the manifest."""
        shape = item["shape"]
        return cls(str(item["name"]), str(item["dtype"]), None if shape is None else tuple(shape))

    @property
    def numpy_dtype(self) -> np.dtype[Any] | None:
        """The element type in numpy; None where numpy lacks it."""
        word = _NUMPY.get(self.dtype)
        return None if word is None else np.dtype(word)


def check_feeds(inputs: Sequence[Tensor], feeds: Mapping[str, Array]) -> dict[str, int]:
    """Compare feeds with the inputs and return the size of every symbol.

    Raises:
        UsageError: A name that is missing or unknown, an element type or a shape that the model doesn't take.
    """
    check_names([item.name for item in inputs], feeds)
    sizes: dict[str, int] = {}
    for item in inputs:
        bind(item, feeds[item.name], sizes)
    return sizes


def check_names(wanted: Iterable[str], given: Iterable[str]) -> None:
    """UsageError where an input is missing or one is given that the model lacks."""
    wanted, given = list(wanted), list(given)
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    listed = f"the inputs are {', '.join(wanted)}"
    if missing:
        raise UsageError(f"the input {missing[0]!r} is missing", hint=listed)
    if unknown:
        raise UsageError(f"the model has no input {unknown[0]!r}", hint=listed)


def bind(item: Tensor, array: Array, sizes: dict[str, int]) -> None:
    """Check one array and add its symbols' sizes to `sizes`; UsageError where it doesn't fit."""
    where, wanted = f"input {item.name!r}", item.numpy_dtype
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{type(array).__name__}, the model takes arrays", where=where, hint="numpy.asarray makes one")
    if wanted is not None and array.dtype != wanted:
        raise UsageError(f"{array.dtype}, the model takes {wanted}", where=where, hint=f"array.astype('{wanted}')")
    if item.shape is None:
        return
    if array.ndim != len(item.shape):
        raise UsageError(f"shape {list(array.shape)}, the model takes {_written(item.shape)}", where=where)
    for size, dim in zip(array.shape, item.shape, strict=True):
        known = sizes.setdefault(dim, size) if isinstance(dim, str) and dim.isidentifier() else dim
        if isinstance(known, int) and known != size:
            other = f", where {dim} is {known}" if isinstance(dim, str) else ""
            raise UsageError(f"shape {list(array.shape)}, the model takes {_written(item.shape)}{other}", where=where)


def check_same(kind: str, declared: Sequence[Tensor], actual: Mapping[str, str], where: str) -> str:
    """What is wrong with a loaded graph's inputs or outputs (name to ONNX element type), or an empty text."""
    names = [item.name for item in declared]
    if sorted(names) != sorted(actual):
        return f"{where} has the {kind} {', '.join(actual)}; manifest.json says {', '.join(names)}"
    for item in declared:
        if actual[item.name] != item.dtype:
            return f"{where}: {item.name} is {actual[item.name]}; manifest.json says {item.dtype}"
    return ""


def _written(shape: tuple[Dim, ...]) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
