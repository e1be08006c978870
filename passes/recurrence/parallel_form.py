"""Places where a linear recurrence may be computed for all steps at once, and whether one is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.graph import constant_array, is_float
from qcompiler.passes.recurrence.observe import Array
from qcompiler.passes.recurrence.over_time import rank_of
from qcompiler.passes.recurrence.step_roles import factors_of

_LARGEST = 4000
"""Nodes of one parallel scan that are looked at."""
_FEWEST = 7
"""Values of the smallest algorithm, running sums in log space."""
_TOLERANCE = 1e-4
"""Of the largest state: running sums and products of float32 in another order."""
_FOREIGN = frozenset({"Conv", "Gemm", "Softmax", "LayerNormalization", "Scan", "Loop", "If", "Einsum", "Attention"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """States and the two products that they are made of; y and C."""

    values: tuple[ir.Value, ir.Value, ir.Value]
    y: ir.Value
    c: ir.Value | None


def find_candidate(node: ir.Node) -> Candidate | None:
    states = _summed(node)
    if states is None or states.shape is None or states.producer() is None:
        return None
    waiting, seen, leaves = [states], set[ir.Value](), dict[ir.Value, None]()
    while waiting:
        value = waiting.pop()
        if value in seen or value.const_value is not None or not _is_float(value):
            continue
        seen.add(value)
        maker = value.producer()
        if maker is None or len(seen) > _LARGEST:
            return None
        if value is not states and _is_spread(maker, len(states.shape)):
            leaves[value] = None
            if len(leaves) > 2:
                return None
            continue
        if maker.op_type in _FOREIGN or maker.domain != "" or _is_projection(maker):
            return None
        waiting += [item for item in maker.inputs if item is not None]
    places = list(leaves)
    if len(places) != 2 or len(seen) < _FEWEST:
        return None
    operands = node.inputs if node.op_type == "MatMul" else factors_of_node(node.inputs[0])
    gates = [leaf for item in operands if item is not None and item is not states for leaf in factors_of(item)]
    return Candidate((states, places[0], places[1]), node.outputs[0], gates[0] if len(gates) == 1 else None)


def _is_float(value: ir.Value) -> bool:
    return is_float(value) and value.dtype is not None


def _summed(node: ir.Node) -> ir.Value | None:
    """H of MatMul(H, C) with one column, or of ReduceSum(H * C) over the last axis."""
    if node.op_type == "MatMul" and node.domain == "":
        column = node.inputs[1]
        is_column = column is not None and column.shape is not None and len(column.shape) > 2 and column.shape[-1] == 1
        return node.inputs[0] if is_column else None
    product = node.inputs[0].producer() if node.op_type == "ReduceSum" and node.inputs[0] is not None else None
    dims = rank_of(node.inputs[0]) if product is not None else None
    axes = constant_array(node.inputs[1]) if product is not None and len(node.inputs) > 1 else None
    if product is None or product.op_type != "Mul" or axes is None or dims is None or axes.size != 1:
        return None
    if int(axes.reshape(-1)[0]) % dims != dims - 1:
        return None
    whole = [value for value in product.inputs if value is not None and value.shape is not None
             and len(value.shape) == dims and 1 not in list(value.shape)[-2:]]  # fmt: skip
    return whole[0] if len(whole) == 1 else None


def _is_spread(node: ir.Node, dims: int) -> bool:
    """A product of the states' sizes with a factor that is smaller."""
    output = node.outputs[0]
    if node.op_type != "Mul" or rank_of(output) != dims or 1 in list(output.shape or ())[-2:]:
        return False
    return any((rank_of(item) or 0) < dims or 1 in list(item.shape or ())[-2:] for item in node.inputs if item)


def _is_projection(node: ir.Node) -> bool:
    weight = constant_array(node.inputs[1]) if node.op_type == "MatMul" else None
    return weight is not None and weight.ndim == 2 and weight.shape[0] != weight.shape[1]


def time_axis(states: Array | None, z: Array | None, b: Array | None) -> int:
    """The axis along which `states` is the recurrence of z and b; -1 where there is none."""
    if states is None or z is None or b is None or states.shape != z.shape or z.shape != b.shape:
        return -1
    for axis in range(states.ndim - 2):
        count = states.shape[axis]
        if count < 2 or z.max(initial=-1.0) > 0:
            continue
        h = np.zeros_like(np.take(b, 0, axis), dtype=np.float64)
        made = []
        for step in range(count):
            h = np.exp(np.take(z, step, axis).astype(np.float64)) * h + np.take(b, step, axis)
            made.append(h)
        if equal(states, np.stack(made, axis)):
            return axis
    return -1


def equal(one: Array, other: Array) -> bool:
    if one.shape != other.shape or not one.size or not np.isfinite(one).all():
        return False
    return bool(np.abs(one - other).max() <= _TOLERANCE * max(float(np.abs(other).max()), 1e-30))


def factors_of_node(value: ir.Value | None) -> list[ir.Value]:
    node = None if value is None else value.producer()
    return [] if node is None else [item for item in node.inputs if item is not None]
