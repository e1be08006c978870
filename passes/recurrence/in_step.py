"""One operator over all steps, written for one step: the same operator without the time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph import constant_array
from qcompiler.passes.recurrence.build import Builder
from qcompiler.passes.recurrence.over_time import ELEMENTWISE, rank_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where time is in an operand.

    Attributes:
        axis: From the front; None where the operand has no such axis.
        timed: False where the axis is 1 long, the same for all steps.
    """

    axis: int | None
    timed: bool


NOWHERE = Place(None, False)


def places(node: ir.Node, axis: int) -> list[Place] | None:
    """Time in each operand where it is `axis` of what the node gives; None where steps cannot be taken apart."""
    dims, data = rank_of(node.outputs[0]), node.inputs[0] if node.inputs else None
    if node.domain != "" or dims is None or len(node.outputs) != 1 or any(item is None for item in node.inputs):
        return None
    inputs = [item for item in node.inputs if item is not None]
    if node.op_type in ELEMENTWISE or node.op_type == "MatMul":
        ranks = [rank_of(item) for item in inputs]
        least = 2 if node.op_type == "MatMul" else 0
        if any(item is None or item < least for item in ranks) or (least and axis >= dims - 2):
            return None
        return [_place(item, axis - dims + (own or 0)) for item, own in zip(inputs, ranks, strict=True)]
    own = rank_of(data)
    if data is None or own is None:
        return None
    if node.op_type == "Transpose":
        return [_place(data, _perm(node, own)[axis])]
    axes = _axes(node, max(own, dims) if node.op_type == "Unsqueeze" else own)
    if axes is None:
        return None
    if node.op_type == "Unsqueeze":
        return None if axis in axes else [_place(data, axis - sum(item < axis for item in axes)), NOWHERE]
    kept = [place for place in range(own) if place not in axes]
    if node.op_type == "ReduceSum" and node.attributes.get_int("keepdims", 1) == 1:
        return None if axis in axes else [_place(data, axis), NOWHERE]
    return [_place(data, kept[axis]), NOWHERE]


def given_axis(node: ir.Node, operand: int, axis: int) -> int | None:
    """Where time is in what the node gives, if it is `axis` of that operand."""
    for found in range(rank_of(node.outputs[0]) or 0):
        taken = places(node, found)
        if taken is not None and taken[operand] == Place(axis, True):
            return found
    return None


def write_in_step(
    make: Builder, outside: Builder, node: ir.Node, axis: int, taken: Sequence[Place], operands: Sequence[ir.Value]
) -> ir.Value:
    """The node for one step.

    Args:
        make: Of the body.
        outside: Takes constants.
        axis: Of time in what the node gives.
        taken: `places(node, axis)`.
        operands: Inside; where time was an axis of theirs they lack it.
    """
    op, place = node.op_type, taken[0].axis
    if op in ELEMENTWISE or op == "MatMul":
        made = make.copy(node, list(operands))
    elif op == "Transpose":
        perm = [item for spot, item in enumerate(_perm(node, rank_of(node.inputs[0]) or 0)) if spot != axis]
        made = make.copy(node, list(operands[:1]), {"perm": [item - (item > _known(place)) for item in perm]})
    else:
        dims = rank_of(node.outputs[0] if op == "Unsqueeze" else node.inputs[0]) or 0
        gone = axis if op == "Unsqueeze" else _known(place)
        axes = [item - (item > gone) for item in _axes(node, dims) or []]
        made = make.copy(node, [operands[0], outside.ints(*axes)])
    made.shape = without(node.outputs[0].shape, axis)
    return made


def _known(axis: int | None) -> int:
    if axis is None:
        raise ValueError("the first operand has no time axis")
    return axis


def without(shape: ir.Shape | None, axis: int) -> ir.Shape | None:
    """The shape of one step."""
    return None if shape is None else ir.Shape([size for place, size in enumerate(shape) if place != axis])


def _place(value: ir.Value, axis: int) -> Place:
    if axis < 0:
        return NOWHERE
    if value.shape is not None:
        return Place(axis, value.shape[axis] != 1)
    return Place(axis, value.const_value is None or value.const_value.shape[axis] != 1)


def _perm(node: ir.Node, dims: int) -> list[int]:
    held = node.attributes.get("perm")
    return list(held.as_ints()) if held is not None else list(range(dims))[::-1]


def _axes(node: ir.Node, dims: int) -> list[int] | None:
    if node.op_type not in ("Unsqueeze", "Squeeze", "ReduceSum") or len(node.inputs) < 2:
        return None
    axes = constant_array(node.inputs[1])
    return None if axes is None else sorted(int(item) % dims for item in axes.reshape(-1))
