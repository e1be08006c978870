"""One operator of a step, written once for all steps: the same operator with time as a new first axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from qcompiler.graph import constant_array, rank
from qcompiler.passes.recurrence.build import Builder

_UNARY: Final = frozenset({
    "Abs", "Cast", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt",
    "Tanh",
})  # fmt: skip
_BROADCAST: Final = frozenset({
    "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "And", "Or",
})  # fmt: skip
ELEMENTWISE: Final = _UNARY | _BROADCAST
_REDUCTIONS: Final = frozenset({"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2"})
SUPPORTED: Final = ELEMENTWISE | _REDUCTIONS | {"MatMul", "Unsqueeze", "Squeeze", "Transpose"}


@dataclass(frozen=True, slots=True)
class Operand:
    """What a node of a step reads, as it is outside of the body.

    Attributes:
        value: Outside; with the time axis in front where `timed`.
        rank: Of the operand inside a step.
    """

    value: ir.Value
    rank: int
    timed: bool


def is_writable(node: ir.Node, data: int, timed: Sequence[int]) -> bool:
    """Whether `write_over_time` knows the operator.

    Args:
        data: Lowest rank of the operands inside a step.
        timed: Indices of the operands that go along time, at least one.
    """
    op = node.op_type
    if node.domain != "" or op not in SUPPORTED or len(node.outputs) != 1 or any(x is None for x in node.inputs):
        return False
    if op == "MatMul":
        return data >= 2 or (timed == [0] and rank_of(node.inputs[1]) == 2)
    if op in _REDUCTIONS or op in ("Unsqueeze", "Squeeze"):
        # without axes: a reduction over everything, a Squeeze of every axis of size 1
        return 0 in timed and len(node.inputs) > 1 and constant_array(node.inputs[1]) is not None
    return op in _BROADCAST or 0 in timed


def write_over_time(make: Builder, node: ir.Node, operands: Sequence[Operand]) -> ir.Value:
    """`node`, which `is_writable`, for all steps: [T, *shape of its output]."""
    op, data = node.op_type, operands[0]
    if op in _BROADCAST or op == "MatMul":
        dims = max(item.rank for item in operands)
        is_vector = op == "MatMul"  # [N] times a matrix for one step is [T, N] times it for all
        return make.copy(node, [_aligned(make, item, dims, is_vector) for item in operands])
    if op == "Transpose":
        held = node.attributes.get("perm")
        perm = list(held.as_ints()) if held is not None else list(range(data.rank))[::-1]
        return make.copy(node, [data.value], {"perm": [0, *(axis + 1 for axis in perm)]})
    if op in _UNARY:
        return make.copy(node, [data.value])
    axes = constant_array(operands[1].value)
    assert axes is not None
    dims = data.rank + (axes.size if op == "Unsqueeze" else 0)
    return make.copy(node, [data.value, make.ints(*sorted(int(axis) % dims + 1 for axis in axes.reshape(-1)))])


def _aligned(make: Builder, item: Operand, dims: int, is_vector: bool) -> ir.Value:
    """Broadcasting counts axes from the back: axes of size 1 between time and the others make up for lower ranks."""
    if not item.timed or item.rank == dims or (item.rank == 1 and is_vector):
        return item.value
    return make.op("Unsqueeze", item.value, make.ints(*range(1, dims - item.rank + 1)))


Shape = tuple[int, tuple[str, ...]]
"""How many elements: the product of known sizes, and the names of the others."""


def elements(value: ir.Value) -> Shape | None:
    """None where a size has neither number nor name."""
    if value.shape is None:
        return None
    number, names = 1, []
    for size in value.shape:
        if isinstance(size, int):
            number *= size
        elif size.value is None:
            return None
        else:
            names.append(str(size.value))
    return number, tuple(sorted(names))


def expands(output: ir.Value, inputs: Sequence[ir.Value]) -> bool:
    """Whether the output is larger than each of the inputs, or nothing is known."""
    wanted = elements(output)
    sizes = [elements(value) for value in inputs]
    return wanted is None or not any(item is not None and item[1] == wanted[1] and item[0] >= wanted[0]
                                     for item in sizes)  # fmt: skip


def rank_of(value: ir.Value | None) -> int | None:
    """Rank, also of constants without a shape."""
    found = rank(value)
    if found is None and value is not None and value.const_value is not None:
        return len(value.const_value.shape)
    return found


