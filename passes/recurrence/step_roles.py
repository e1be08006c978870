"""The tensors of one step h' = exp(dt A) h + dt x B, y = sum over n of h' C, whatever form the step is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, constant_array
from qcompiler.passes.canonical.forms import form_of
from qcompiler.passes.recurrence.over_time import rank_of
from qcompiler.passes.recurrence.roles import TensorRole

_MOVES = LAYOUT_OPS | {"Cast", "Gather", "Slice", "Split", "Expand", "Pad"}
_FARTHEST = 64
"""Nodes that a search passes at most."""

NO_EXPONENTIAL = "the factor of its state is no exponential"
Outside = Callable[[ir.Value], ir.Value]
"""What a value of a step is outside of the step; itself where it is neither inside nor along time."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where a step begins and ends.

    Attributes:
        old, new: The state before and after.
        read: The node that sums new states times C over the state axis, MatMul or ReduceSum; None where nobody does.
        outside: See `Outside`.
    """

    old: ir.Value
    new: ir.Value
    read: ir.Node | None
    outside: Outside


def step_roles(step: Step) -> dict[TensorRole, ir.Value] | str:
    """Roles of the tensors around a step; or why it is none."""
    add = step.new.producer()
    if add is None or add.op_type != "Add":
        return "its next state is no sum"
    kept = next((side for side in add.inputs if step.old in _operands(side)), None)
    given = next((side for side in add.inputs if side is not kept), None)
    if kept is None or given is None:
        return "its next state is not a h + b"
    decays = [value for value in _operands(kept) if value is not step.old]
    exponent = _exponent(decays, step.outside)
    if exponent is None:
        return NO_EXPONENTIAL
    found: dict[TensorRole, ir.Value] = {}
    leaves = _leaves(exponent, step.outside)
    rates = [value for value in leaves if constant_array(value) is not None]
    steps = [value for value in leaves if constant_array(value) is None]
    if len(steps) != 1:
        return "its decay has not one step width"
    found[TensorRole.STEP] = steps[0]
    if len(rates) == 1:
        found[TensorRole.DECAY] = rates[0]
    along, across = parted(given, _state_axis(step))
    sides = [[leaf for value in side for leaf in _leaves(value, step.outside) if leaf is not steps[0]]
             for side in (along, across)]  # fmt: skip
    for role, side in zip((TensorRole.INPUT_GATE, TensorRole.SCAN_INPUT), sides, strict=True):
        if len(side) == 1:
            found[role] = side[0]
    if TensorRole.SCAN_INPUT not in found:
        return "its input cannot be told from its other factors"
    gate = _output_gate(step)
    if gate is not None:
        found[TensorRole.OUTPUT_GATE] = gate
    return found


def _operands(value: ir.Value | None, *op_types: str) -> list[ir.Value]:
    node = None if value is None else value.producer()
    taken = node is not None and node.op_type in (op_types or ("Mul",))
    return [item for item in node.inputs if item is not None] if node is not None and taken else []


def _exponent(decays: list[ir.Value], outside: Outside) -> ir.Value | None:
    """z where exp(z), moved as it may be, is the state's factor."""
    if len(decays) != 1:
        return None
    value = decays[0]
    for _ in range(_FARTHEST):
        node = value.producer()
        if node is not None and node.op_type == "Exp":
            return node.inputs[0]
        if node is not None and node.op_type in _MOVES and node.inputs[0] is not None:
            value = node.inputs[0]
        elif (moved := outside(value)) is not value:
            value = moved
        else:
            break
    return None


def factors_of(value: ir.Value) -> list[ir.Value]:
    """Factors of a product outside of any step, in front of what moves them, each once."""
    return _leaves(value, lambda item: item)


def _leaves(value: ir.Value, outside: Outside) -> list[ir.Value]:
    """Factors of a product, in front of what moves them, each once."""
    waiting, found, passed = [value], list[ir.Value](), 0
    while waiting and passed < _FARTHEST:
        item, passed = waiting.pop(), passed + 1
        node, moved = item.producer(), outside(item)
        if moved is not item:
            waiting.append(moved)
        elif node is not None and form_of(node) is None and node.op_type in _MOVES and _keeps_all(node):
            waiting += [data for data in node.inputs[:1] if data is not None]
        elif node is not None and form_of(node) is None and node.op_type in ("Mul", "MatMul") and _is_elementwise(node):
            waiting += [data for data in node.inputs if data is not None]
        elif item not in found:
            found.append(item)
    return found


def _keeps_all(node: ir.Node) -> bool:
    """Whether the node moves one tensor; a part of a larger one is a tensor of its own."""
    return node.op_type not in ("Slice", "Split") and (node.op_type != "Gather" or _takes_single(node))


def _takes_single(node: ir.Node) -> bool:
    """A Gather of one place, which the only step of a one-step graph begins with."""
    data, axis = node.inputs[0], node.attributes.get_int("axis", 0)
    return data is not None and data.shape is not None and axis < len(data.shape) and data.shape[axis] == 1


def _is_elementwise(node: ir.Node) -> bool:
    """A Mul, or the MatMul that is an outer product."""
    if node.op_type == "Mul":
        return True
    one = node.inputs[0]
    return one is not None and one.shape is not None and len(one.shape) >= 2 and one.shape[-1] == 1


def _state_axis(step: Step) -> int:
    """The axis over which the output sums, counted from the end."""
    node = step.read
    if node is not None and node.op_type == "MatMul":
        return -1 if node.inputs[0] is step.new else -2
    axes = constant_array(node.inputs[1]) if node is not None and len(node.inputs) > 1 else None
    dims = rank_of(step.new)
    if axes is not None and axes.size == 1 and dims is not None:
        return int(axes.reshape(-1)[0]) % dims - dims
    return -1


def parted(value: ir.Value, axis: int) -> tuple[list[ir.Value], list[ir.Value]]:
    """Factors that vary along the axis, and the others."""
    waiting, parts = [value], (list[ir.Value](), list[ir.Value]())
    while waiting:
        item = waiting.pop()
        sizes = [] if item.shape is None else list(item.shape)
        flat = len(sizes) < -axis or sizes[axis] == 1
        inner = _operands(item, "Mul", "MatMul")
        if not flat and inner:
            waiting += inner
        else:
            parts[1 if flat else 0].append(item)
    return parts


def _output_gate(step: Step) -> ir.Value | None:
    node = step.read
    if node is None:
        return None
    operands = list(node.inputs)
    if node.op_type == "ReduceSum":
        operands = list(_operands(operands[0]))
    others = [value for value in operands if value is not None and value is not step.new]
    leaves = _leaves(others[0], step.outside) if len(others) == 1 else []
    return leaves[0] if len(leaves) == 1 else None
