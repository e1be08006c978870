"""Where the factors of axes go when a Reshape deals them out anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompiler.graph import constant_array
from qcompiler.passes.canonical.matching import producer, with_scalar
from qcompiler.passes.normalize.shape_values import dims_of
from qcompiler.passes.sites.axis_factors import Axis, Factor, has_channels, other


def regrouped(axes: Sequence[Axis], node: ir.Node) -> tuple[Axis, ...] | None:
    """Factors in their order, dealt out to the axes that a Reshape makes: known sizes by products from both ends,
    others one each, and the axis of the target's -1, or else the one that channels face or the last one left, takes the
    rest."""
    shape = node.outputs[0].shape
    if shape is None:
        return None
    sizes = [size if isinstance(size, int) else None for size in shape]
    free = _free_axis(node, len(sizes))
    same = _same_behind(node.inputs[0], shape)
    factors = [item for axis in axes[: len(axes) - same] for item in axis]
    sides: tuple[list[Axis], list[Axis]] = ([], list(axes[len(axes) - same :]))
    for last, dealt in ((True, sides[1]), (False, sides[0])):
        while len(sides[0]) + len(sides[1]) < len(sizes):
            place = len(sizes) - 1 - len(dealt) if last else len(dealt)
            size, single = sizes[place], len(sides[0]) + len(sides[1]) == len(sizes) - 1
            if not has_channels(factors):
                axis: Axis | None = other(size)
            elif size is None and (single or place == _rest(free, factors, place, last=last)):
                break
            else:
                axis = _taken(factors, size, last=last)
                if axis is not None and size is None and not last:
                    axis += _multiples(factors, _multiple(node, place))
            if axis is None:
                return None
            dealt.insert(0 if last else len(dealt), axis)
    left, right = sides
    if len(left) + len(right) == len(sizes):
        return None if has_channels(factors) else (*left, *right)
    return (*left, tuple(factors), *right) if len(left) + len(right) == len(sizes) - 1 else None


def _same_behind(before: ir.Value | None, shape: ir.Shape) -> int:
    """How many last axes bear the same symbol or size as before."""
    old, new = list(before.shape or ())[::-1] if before is not None else [], list(shape)[::-1]
    pairs = zip(old, new, strict=False)
    same = [left == right and (isinstance(left, int) or left.value is not None) for left, right in pairs]
    return same.index(False) if False in same else len(same)


def _rest(free: int | None, factors: Sequence[Factor], place: int, *, last: bool) -> int:
    """The place that takes what is left: of the target's -1, or this one where channels face it."""
    if free is not None:
        return free
    return place if factors[-1 if last else 0].stride is not None else -1


def _multiple(node: ir.Node, place: int) -> int:
    """The constant factor in the size that a Reshape's target computes for an axis: the heads in batch x heads."""
    joined = producer(node.inputs[1], "Concat") if len(node.inputs) > 1 else None
    if joined is None or any(dims_of(part) != (1,) for part in joined.inputs) or place >= len(joined.inputs):
        return 1
    value, found = joined.inputs[place], 1
    while (maker := producer(value, "Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity", "Mul")) is not None:
        scaled = with_scalar(maker) if maker.op_type == "Mul" else (maker.inputs[0], 1)
        if scaled is None:
            break
        value, found = scaled[0], found * int(scaled[1])
    return found


def _multiples(factors: list[Factor], multiple: int) -> Axis:
    """Remove factors of known sizes that go into the multiple from the front."""
    taken: list[Factor] = []
    while factors and (size := factors[0].size) is not None and multiple > 1 and multiple % size == 0:
        multiple //= size
        taken.append(factors.pop(0))
    return tuple(taken)


def _taken(factors: list[Factor], size: int | None, *, last: bool) -> Axis | None:
    """Remove factors of this product from one end; a factor that is too large is split, one that is not known taken
    for the product."""
    place = -1 if last else 0
    if size is None:
        return (factors.pop(place),) if factors and factors[place].stride is None else None
    taken: list[Factor] = []
    while size > 1:
        item = factors.pop(place) if factors else None
        if item is not None and item.size is None and item.stride == 0:
            item = Factor(size, 0)  # repeated as often as the target needs
        elif item is not None and item.size is None and item.stride is None and not taken:
            item = Factor(size, None)  # a length that the exporter fixed in this target
        if item is None or item.size is None:
            return None
        if size % item.size == 0:
            size //= item.size
        elif item.size % size == 0:
            inner, outer = (size, item.size // size) if last else (item.size // size, size)
            parts = Factor(outer, None if item.stride is None else item.stride * inner), Factor(inner, item.stride)
            item, rest = (parts[1], parts[0]) if last else parts
            factors.insert(len(factors) if last else 0, rest)
            size = 1
        else:
            return None
        taken.insert(0 if last else len(taken), item)
    return tuple(taken)


def _free_axis(node: ir.Node, dims: int) -> int | None:
    """The place of -1 in the target of a Reshape, a constant or put together from parts."""
    if node.op_type != "Reshape" or len(node.inputs) < 2:
        return None
    target = node.inputs[1]
    array = constant_array(target)
    if array is None:
        joined = producer(target, "Concat")
        parts = [constant_array(item) for item in joined.inputs] if joined is not None else []
        if len(parts) != dims:
            return None
        array = np.array([1 if part is None or part.size != 1 else int(part.reshape(-1)[0]) for part in parts])
    places = np.flatnonzero(array.reshape(-1) == -1)
    return int(places[0]) if places.size == 1 else None
