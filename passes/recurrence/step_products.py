"""The step of a recurrence with a decay a head: what it multiplies with what."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, constant_array
from qcompiler.passes.recurrence.scans import Along, ScanParts


@dataclass(frozen=True, slots=True)
class StepProducts:
    """h <- a h + x B, y = h C, all of a, x, B, C going along time.

    Shapes inside a step, behind the same leading axes or 1: h [P, N], a [1, 1], x [P, 1], B [1, N], C [N, 1], or [1, N]
    where not `c_is_column`.

    Attributes:
        exponent: z outside, where a = exp(z).
        moves: Layout operators between exp(z) and a, from a back.
        keeps_axis: y is [P, 1], else [P].
        state: Shape of h, (..., P, N).
    """

    decay: Along
    x: Along
    b: Along
    c: Along
    exponent: ir.Value
    moves: tuple[ir.Node, ...]
    c_is_column: bool
    keeps_axis: bool
    state: tuple[object, ...]


def find_products(parts: ScanParts) -> StepProducts | str:
    """The products of a Scan's step, or why it is no such step."""
    if len(parts.states) != 1 or len(parts.outputs) != 1:
        return "it has not one state and one output"
    items = [*parts.inputs, *parts.outputs]
    if any(item.axis for item in items):
        return "time is not the first axis of what goes along"
    if len({item.backwards for item in items}) != 1:
        return "not everything goes in one direction"
    along = {item.inner: item for item in parts.inputs}
    state, add = parts.states[0], parts.states[0].new.producer()
    shape = _shape(state.old)
    if add is None or add.op_type != "Add" or shape is None or len(shape) < 2:
        return "its next state is no sum"
    kept = next((side for side in add.inputs if state.old in _factors(side)), None)
    given = next((side for side in add.inputs if side is not kept), None)
    if kept is None or given is None:
        return "its next state is not a h + b"
    decay = next((along[value] for value in _factors(kept) if value in along), None)
    if decay is None or not _has_sizes(decay.inner, 1, 1):
        return "its decay is not one number a head"
    pair = [along[value] for value in _factors(given, "Mul", "MatMul") if value in along]
    x = next((item for item in pair if _has_sizes(item.inner, shape[-2], 1)), None)
    b = next((item for item in pair if item is not x and _has_sizes(item.inner, 1, shape[-1])), None)
    if len(pair) != 2 or x is None or b is None:
        return "what it adds is no outer product"
    found = _output(parts, along)
    if isinstance(found, str):
        return found
    c, c_is_column, keeps_axis = found
    moves: list[ir.Node] = []
    node = decay.outer.producer()
    while node is not None and node.op_type in LAYOUT_OPS and node.inputs[0] is not None:
        moves.append(node)
        node = node.inputs[0].producer()
    if node is None or node.op_type != "Exp" or node.inputs[0] is None:
        return "its decay is no exponential"
    if any(len(_shape(item.inner) or ()) != len(shape) for item in (decay, x, b, c)):
        return "its factors have other ranks than its state"
    return StepProducts(decay, x, b, c, node.inputs[0], tuple(moves), c_is_column, keeps_axis, shape)


def _output(parts: ScanParts, along: dict[ir.Value, Along]) -> tuple[Along, bool, bool] | str:
    """C, whether it is a column, and whether the sum keeps its axis."""
    new, node = parts.states[0].new, parts.outputs[0].inner.producer()
    shape = _shape(parts.states[0].old) or ()
    if node is not None and node.op_type == "MatMul" and node.inputs[0] is new and node.inputs[1] in along:
        c = along[node.inputs[1]]
        return (c, True, True) if _has_sizes(c.inner, shape[-1], 1) else "C is more than one vector"
    product = node.inputs[0].producer() if node is not None and node.inputs[0] is not None else None
    if node is None or node.op_type != "ReduceSum" or product is None or new not in _factors(product.outputs[0]):
        return "its output is no sum over the state"
    axes = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    factor = next((along[value] for value in product.inputs if value in along), None)
    if factor is None or axes is None or axes.size != 1 or int(axes.reshape(-1)[0]) % len(shape) != len(shape) - 1:
        return "its output is no sum over the state's last axis"
    if not _has_sizes(factor.inner, 1, shape[-1]):
        return "C is more than one vector"
    return factor, False, bool(node.attributes.get_int("keepdims", 1))


def _factors(value: ir.Value | None, *op_types: str) -> tuple[ir.Value | None, ...]:
    node = None if value is None else value.producer()
    return tuple(node.inputs) if node is not None and node.op_type in (op_types or ("Mul",)) else ()


def _shape(value: ir.Value) -> tuple[object, ...] | None:
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else size.value for size in value.shape)


def _has_sizes(value: ir.Value, rows: object, columns: object) -> bool:
    shape = _shape(value)
    return shape is not None and len(shape) >= 2 and shape[-2:] == (rows, columns)
