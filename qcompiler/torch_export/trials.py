"""Sizes and seeded inputs on which an export is traced and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from qcompiler.torch_export.dynamic_axes import Axes, shape_at

Sizes = dict[str, int]
_SEQUENCES = ("seq", "len", "time", "token", "frame")


def trial_sizes(example: Mapping[str, int], more: Sequence[Mapping[str, int]] = ()) -> list[Sizes]:
    """The example's sizes, each name larger on its own, all at their least, and what the user adds; no doubles."""
    found = [dict(example)]
    found += [{**example, name: _larger(name, size)} for name, size in example.items()]
    found.append({name: _least(name, size) for name, size in example.items()})
    found += [{**example, **sizes} for sizes in more]
    return [sizes for index, sizes in enumerate(found) if sizes not in found[:index]]


def tracing_sizes(example: Mapping[str, int]) -> Sizes:
    """The example's sizes, but none of 0 or 1: exporters take those for fixed."""
    return {name: size if size > 1 else _larger(name, max(size, 1)) for name, size in example.items()}


def resized(
    tensors: Sequence[tuple[str, Tensor]], axes: Axes, sizes: Mapping[str, int], seed: int
) -> list[tuple[str, Tensor]]:
    """Inputs of these sizes; where nothing changes, the example's own.

    Floats are normal with the example's mean and deviation. Integers are drawn from the example's own values, so they
    stay below any table's rows; positions count on from the example's first; masks repeat the example's.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for name, tensor in tensors:
        shape = shape_at(tensor, axes.get(name, {}), sizes)
        made.append((name, tensor if shape == tuple(tensor.shape) else _resize(name, tensor, shape, generator)))
    return made


def _resize(name: str, tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if tensor.is_floating_point() and "mask" not in name:
        known = tensor.numel() > 1
        mean, deviation = (float(tensor.mean()), float(tensor.std())) if known else (0.0, 1.0)
        noise = torch.randn(shape, generator=generator)
        return (mean + (deviation or 1.0) * noise).to(tensor.dtype)
    if tensor.numel() == 0:
        return torch.zeros(shape, dtype=tensor.dtype) + ("mask" in name)
    if "position" in name and not tensor.is_floating_point():
        return (tensor.flatten()[0] + torch.arange(shape[-1])).expand(shape).to(tensor.dtype).contiguous()
    if "mask" in name:
        for axis, size in enumerate(shape):
            tensor = tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])
        return tensor
    values = tensor.flatten()
    return values[torch.randint(values.numel(), shape, generator=generator)]


def to_arrays(tensors: Sequence[tuple[str, Tensor]]) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """Feeds for onnxruntime."""
    return {name: tensor.detach().numpy() for name, tensor in tensors}


def _larger(name: str, size: int) -> int:
    if "batch" in name:
        return size + 1
    return size + 3 if any(word in name for word in _SEQUENCES) else 2 * size


def _least(name: str, size: int) -> int:
    if "past" in name:
        return 0
    return 1 if "batch" in name or any(word in name for word in _SEQUENCES) else size
