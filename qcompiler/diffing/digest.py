"""Digests of tensors: equal for equal type, shape and content; read in place, one tensor at a time."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.weight_file import forget_pages


def tensor_digest(tensor: ir.TensorProtocol) -> str:
    """32 hex digits over type, shape and content. Mapped files are read through the map and not kept."""
    digest = hashlib.blake2b(f"{tensor.dtype} {shape_text(tensor)}".encode(), digest_size=16)
    array = tensor.numpy()
    if array.dtype == object or array.dtype.kind in "SU":
        digest.update(repr(array.tolist()).encode())
    elif array.size:
        digest.update(as_bytes(array).data)
    forget_pages(tensor)
    return digest.hexdigest()


def as_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array's bytes in C order; copied only where they lie otherwise."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def shape_text(tensor: ir.TensorProtocol) -> str:
    """`3x224x224`; `scalar` for none."""
    return "x".join(str(size) for size in tensor.shape) or "scalar"
