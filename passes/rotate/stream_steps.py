"""Single steps along a residual stream: through operators that keep its channels, and to the layers that write it."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph import rank
from qcompiler.passes.sites.readers import axis_behind, factored_operand, same_for_all_channels
from qcompiler.passes.sites.records import Operand

SUMS = ("Add", "Sub")


def keeps_channels(node: ir.Node, index: int, value: ir.Value, axis: int) -> bool:
    """Whether the output is linear in the value, channel by channel and alike for all of them."""
    op = node.op_type if node.domain == "" else ""
    if op in ("Mul", "Div"):
        return factored_operand(node, axis) == index
    if op == "Concat":
        dims = rank(node.outputs[0]) or 0
        return dims > 0 and node.attributes.get_int("axis", 0) % dims != dims + axis
    if op == "Where":
        return index > 0 and same_for_all_channels(node.inputs[0], axis)
    return op in SUMS or (op == "Expand" and index == 0)


def layer_writers(node: ir.Node, value: ir.Value, axis: int) -> list[Operand] | None:
    """Constants of a layer or table lookup that makes the channels at `axis`; None where it is none."""
    if node.op_type == "Gather":
        before = axis_before(node, axis)
        return [Operand(node, 0, before)] if before is not None and _is_constant(node, 0) else None
    if node.op_type not in ("MatMul", "Gemm", "Conv") or not _is_constant(node, 1):
        return None
    weight = node.inputs[1]
    dims = rank(weight)
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    if has_bias and (not _is_constant(node, 2) or rank(node.inputs[2]) != 1):
        return None
    if node.op_type == "Conv":
        if (rank(value) or 0) + axis != 1 or node.attributes.get_int("group", 1) != 1:
            return None
        outputs = 0
    elif axis != -1 or dims != 2:
        return None
    else:
        outputs = 0 if node.attributes.get_int("transB", 0) else 1
    found = [Operand(node, 1, outputs)]
    return [*found, Operand(node, 2, 0)] if has_bias else found


def _is_constant(node: ir.Node, index: int) -> bool:
    value = node.inputs[index]
    return value is not None and value.const_value is not None and not value.is_graph_input()


def axis_before(node: ir.Node, axis: int) -> int | None:
    """Where channels that lie at `axis` of the first output lie in the first input."""
    dims = rank(node.inputs[0]) if node.inputs else None
    places = range(-1, -(dims or 0) - 1, -1)
    return next((place for place in places if axis_behind(node, place) == axis), None)
