"""Which axes of which inputs vary, and their names: as given, or by the names and shapes of the inputs.

A name stands for one size wherever it is used. `a + b` is the sum of two sizes, and `total_sequence_length` is
`past_sequence_length + sequence_length` where these two exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from qcompiler.config import nearest
from qcompiler.errors import UsageError

Axes = dict[str, dict[int, str]]
"""Input name to axis to the name of its size."""

BATCH, SEQUENCE, PAST, TOTAL = "batch_size", "sequence_length", "past_sequence_length", "total_sequence_length"


def dynamic_axes(dynamic: Any, tensors: Sequence[tuple[str, Tensor]]) -> Axes:
    """The varying axes of every input.

    Args:
        dynamic: "auto": the leading axis that inputs share, and sequences of inputs with well-known names; "batch":
            only the former; None: nothing varies; else input name to {axis: name} or a list of axes, as
            torch.onnx.export takes it.

    Raises:
        UsageError: An unknown word, input or axis.
    """
    if dynamic is None:
        return {}
    if isinstance(dynamic, Mapping):
        return _given(dynamic, dict(tensors))
    if dynamic not in ("auto", "batch"):
        raise UsageError(f"unknown value {dynamic!r} of dynamic", hint='"auto", "batch", None or {input: {axis: name}}')
    rows = next((tensor.shape[0] for _, tensor in tensors if tensor.ndim), None)
    axes: Axes = {}
    names = [name for name, _ in tensors]
    for name, tensor in tensors:
        if tensor.ndim and tensor.shape[0] == rows:
            axes[name] = {0: BATCH}
        if dynamic == "auto":
            axes.setdefault(name, {}).update(_sequences(name, tensor, names))
    return {name: found for name, found in axes.items() if found}


def sizes_of(axes: Axes, tensors: Sequence[tuple[str, Tensor]]) -> dict[str, int]:
    """The size that each name stands for in the example.

    Raises:
        UsageError: One name, two sizes; a sum that isn't one.
    """
    sizes: dict[str, int] = {}
    held = dict(tensors)
    for name, found in axes.items():
        for axis, size_name in found.items():
            size = held[name].shape[axis]
            if "+" not in size_name and sizes.setdefault(size_name, size) != size:
                raise UsageError(f"{size_name!r} is {sizes[size_name]} and, in {name!r}, {size}", where="dynamic")
    for name, found in axes.items():
        for axis, size_name in found.items():
            size = held[name].shape[axis]
            parts = terms(size_name, sizes)
            unknown = next((part for part in parts if part not in sizes), None)
            if unknown is not None:
                raise UsageError(f"{size_name!r}: nothing has the size {unknown!r}", where="dynamic")
            if sum(sizes[part] for part in parts) != size:
                values = " + ".join(f"{part}={sizes[part]}" for part in parts)
                raise UsageError(f"axis {axis} of {name!r} is {size}, not {values}", where="dynamic")
    if is_sum(TOTAL, sizes):
        sizes.pop(TOTAL, None)
    return sizes


def terms(size_name: str, sizes: Mapping[str, int]) -> list[str]:
    """The names whose sizes add up to this one."""
    if is_sum(size_name, sizes):
        return [PAST, SEQUENCE]
    return [part.strip() for part in size_name.split("+")]


def is_sum(size_name: str, sizes: Mapping[str, int]) -> bool:
    """Whether this is the total of past and new tokens."""
    return size_name == TOTAL and PAST in sizes and SEQUENCE in sizes


def shape_at(tensor: Tensor, axes: Mapping[int, str], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The tensor's shape with its varying sizes set."""
    shape = list(tensor.shape)
    for axis, name in axes.items():
        shape[axis] = sum(sizes[part] for part in terms(name, sizes))
    return tuple(shape)


def named_shape(tensor: Tensor, axes: Mapping[int, str]) -> list[int | str]:
    """The tensor's shape with the names of its varying sizes."""
    return [axes.get(axis, size) for axis, size in enumerate(tensor.shape)]


def _sequences(name: str, tensor: Tensor, names: Sequence[str]) -> dict[int, str]:
    has_past = any(other.startswith("past_key_values.") for other in names)
    one_step = any("ssm_state" in other or "conv_state" in other for other in names) and tensor.shape[-1:] == (1,)
    if name.startswith("past_key_values.") and tensor.ndim == 4:
        return {2: PAST}
    if tensor.ndim != 2 or tensor.is_floating_point() or one_step:
        return {}
    if name == "attention_mask":
        return {1: TOTAL if has_past else SEQUENCE}
    return {1: SEQUENCE} if name.endswith("_ids") else {}


def _given(dynamic: Mapping[Any, Any], tensors: Mapping[str, Tensor]) -> Axes:
    axes: Axes = {}
    for name, wanted in dynamic.items():
        if name not in tensors:
            raise UsageError(f"no input {name!r}", where="dynamic", hint=nearest(str(name), tensors))
        rank = tensors[name].ndim
        if not isinstance(wanted, Mapping):
            wanted = {axis: f"{name}_dim_{axis}" for axis in wanted}
        for axis, size_name in wanted.items():
            if not isinstance(axis, int) or not -rank <= axis < rank:
                raise UsageError(f"{name!r} has {rank} axes, not one numbered {axis!r}", where="dynamic")
            if not isinstance(size_name, str) or not size_name:
                raise UsageError(f"axis {axis} of {name!r} needs a name, not {size_name!r}", where="dynamic")
            axes.setdefault(name, {})[axis % rank] = size_name
    return axes
