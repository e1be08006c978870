"""Leaving padding out of calibration: positions that an attention mask switches off don't count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.calibration.inputs import Dim, InputSpec
from qcompiler.session import Feeds

Mask = npt.NDArray[np.bool_]


def find_mask(inputs: Sequence[InputSpec]) -> InputSpec | None:
    """The padding mask among the inputs: rank 2, "mask" in its name; None where there is none, or several."""
    found = [spec for spec in inputs if "mask" in spec.name.lower() and len(spec.shape) == 2]
    exact = [spec for spec in found if "attention_mask" in spec.name.lower()]
    chosen = exact or found
    return chosen[0] if len(chosen) == 1 else None


def padding(feeds: Feeds, mask_input: InputSpec | None) -> Mask | None:
    """True at real positions, shape [batch, sequence]; None where nothing is padded, or the input is no 0-1 mask."""
    if mask_input is None:
        return None
    array = feeds[mask_input.name]
    if array.ndim != 2:
        return None
    real = array != 0
    if real.all() or not real.any() or not np.all(array[real] == 1):
        return None
    return np.asarray(real)


@dataclass(frozen=True, slots=True)
class MaskedAxes:
    """Where a tensor's batch and sequence lie.

    Attributes:
        sequence: Axes of the sequence.
        heads: Leading items that share one row of the mask, for [batch * heads, ...].
        flat: The tensor is [batch * sequence, ...].
    """

    sequence: tuple[int, ...]
    heads: int = 1
    flat: bool = False


def masked_axes(
    symbolic: Sequence[Dim] | None, shape: Sequence[int], mask: InputSpec, sizes: tuple[int, int]
) -> MaskedAxes | None:
    """Which axes of a tensor the mask covers; None where it covers none.

    The tensor's symbolic sizes decide where they bear the mask's names; else sizes do, for the layouts
    [B, S, ...], [B, H, S, D], [B, H, D, S], [B, H, S, S], [B*H, S, D], [B*S, D].
    """
    batch, length = sizes
    names = mask.shape if len(mask.shape) == 2 else (None, None)
    if symbolic is not None and isinstance(names[1], str) and names[1] in symbolic and shape and shape[0] == batch:
        axes = tuple(axis for axis, dim in enumerate(symbolic) if axis and dim == names[1] and shape[axis] == length)
        if axes:
            return MaskedAxes(axes)
    known = symbolic if symbolic is not None and isinstance(names[1], str) else [None] * len(shape)

    def may_be_sequence(axis: int) -> bool:
        return shape[axis] == length and not isinstance(known[axis], int)

    if len(shape) == 2 and shape[0] == batch * length and length > 1 and not isinstance(known[0], int):
        return MaskedAxes((), flat=True)
    if len(shape) < 2 or shape[0] == 0 or shape[0] % batch:
        return None
    heads = shape[0] // batch
    if len(shape) == 4 and heads == 1:
        axes = tuple(axis for axis in (2, 3) if may_be_sequence(axis)) or ((1,) if may_be_sequence(1) else ())
    elif len(shape) == 3:
        axes = (
            (1, 2)
            if heads > 1 and may_be_sequence(1) and may_be_sequence(2)
            else next(((axis,) for axis in (1, 2) if may_be_sequence(axis)), ())
        )
    elif heads == 1:
        axes = (1,) if may_be_sequence(1) else ()
    else:
        axes = ()
    return MaskedAxes(axes, heads) if axes else None


def drop_padding(array: np.ndarray[Any, Any], mask: Mask, where: MaskedAxes) -> np.ndarray[Any, Any]:
    """The elements at real positions, as a vector."""
    if where.flat:
        return array[mask.reshape(-1)].reshape(-1)
    if where.heads == 1 and where.sequence == (1,):
        return array[mask].reshape(-1)
    pieces = []
    for index, item in enumerate(array):
        real = mask[index // where.heads]
        for axis in where.sequence:
            item = np.compress(real, item, axis=axis - 1)
        pieces.append(item.reshape(-1))
    return np.concatenate(pieces)


def symbolic_shape(value: ir.Value | None) -> list[Dim] | None:
    """A value's sizes as integers, names and None; None where the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape]


def without_padding(sample: Feeds, inputs: Sequence[InputSpec]) -> Feeds:
    """The sample cut to its real positions, where they come first and the model takes any length.

    Outputs at padded positions mean nothing, but would count in every comparison of outputs.
    """
    mask = find_mask(inputs)
    real = padding(sample, mask)
    length = mask.shape[1] if mask is not None else None
    if real is None or len(real) != 1 or not isinstance(length, str):
        return sample
    count = int(real.sum())
    if not real[0, :count].all():
        return sample
    cut: dict[str, np.ndarray[Any, Any]] = {}
    for spec in inputs:
        axes = [axis for axis, dim in enumerate(spec.shape) if dim == length]
        cut[spec.name] = sample[spec.name]
        for axis in axes:
            cut[spec.name] = np.take(cut[spec.name], np.arange(count), axis=axis)
    return cut
