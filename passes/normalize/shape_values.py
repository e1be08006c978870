"""Shape arithmetic on partly known integers.

A shape operand is known as a tuple whose entries are integers, or names of symbolic dimensions (never negative), or
None where nothing is known: Concat(Shape(x)[0], [-1, 12, 64]) is ("batch", -1, 12, 64).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

Entry = int | str | None


@dataclass(frozen=True, slots=True)
class ShapeValue:
    """The content of an integer tensor of rank 0 or 1."""

    entries: tuple[Entry, ...]
    scalar: bool = False

    @property
    def known(self) -> bool:
        """Whether every entry is an integer."""
        return all(isinstance(entry, int) for entry in self.entries)

    def array(self, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """The content, once `known`."""
        whole = np.asarray(self.entries, dtype)
        return whole.reshape(()) if self.scalar else whole.reshape(-1)


def dims_of(value: ir.Value | None) -> tuple[Entry, ...] | None:
    """The shape of a value as entries."""
    if value is None or value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else size.value for size in value.shape)


def to_shape(entries: Sequence[Entry]) -> ir.Shape:
    """Entries as a shape; None becomes an unnamed dimension."""
    return ir.Shape(list(entries))


def evaluate_shape_op(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
    """What this node computes from partly known operands; None where that can't be said."""
    if node.op_type == "Shape":
        return _shape(node)
    if node.op_type == "Size":
        return _size(node)
    rule = _RULES.get(node.op_type)
    return rule(node, operands) if rule is not None and operands else None


def _shape(node: ir.Node) -> ShapeValue | None:
    dims = dims_of(node.inputs[0])
    if dims is None:
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(dims))
    return ShapeValue(dims[start:end])


def _size(node: ir.Node) -> ShapeValue | None:
    dims = dims_of(node.inputs[0])
    known = [size for size in dims or () if isinstance(size, int)]
    return ShapeValue((math.prod(known),), True) if dims is not None and len(known) == len(dims) else None


def _gather(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
    data, indices = operands[0], operands[1]
    if data is None or data.scalar or indices is None or not indices.known:
        return None
    size = len(data.entries)
    picked = [int(index) for index in indices.entries if isinstance(index, int)]
    if any(not -size <= index < size for index in picked):
        return None
    return ShapeValue(tuple(data.entries[index] for index in picked), indices.scalar)


def _concat(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
    parts = [part for part in operands if part is not None and not part.scalar]
    return ShapeValue(tuple(entry for part in parts for entry in part.entries)) if len(parts) == len(operands) else None


def _slice(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
    data, bounds = operands[0], operands[1:3]
    if data is None or data.scalar or len(bounds) < 2:
        return None
    step = operands[4] if len(operands) > 4 else ShapeValue((1,))
    picked = [
        part.entries[0] if part is not None and part.known and len(part.entries) == 1 else None
        for part in (*bounds, step)
    ]
    if any(item is None for item in picked):
        return None
    start, stop, stride = (int(item) for item in picked if item is not None)
    if stride < 1:
        return None
    return ShapeValue(data.entries[start:stop:stride])


def _unsqueeze(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
    data, axes = operands[0], operands[1] if len(operands) > 1 else None
    if data is None or not data.scalar or axes is None or axes.entries not in ((0,), (-1,)):
        return None
    return ShapeValue(data.entries)


def _squeeze(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
    data = operands[0]
    return ShapeValue(data.entries, True) if data is not None and not data.scalar and len(data.entries) == 1 else None


def _reshape(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
    data, target = operands[0], operands[1]
    if data is None or target is None or not target.known:
        return None
    if target.entries == ():
        return ShapeValue(data.entries, True) if len(data.entries) == 1 else None
    return ShapeValue(data.entries) if len(target.entries) == 1 else None


def _same(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
    if node.op_type == "Cast" and node.attributes.get_int("to", 0) not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    return operands[0]


def _constant_of_shape(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
    target, held = operands[0], node.attributes.get("value")
    if target is None or not target.known or len(target.entries) > 1 or held is None:
        return None
    fill = held.as_tensor().numpy().reshape(-1)
    if fill.dtype.kind != "i":
        return None
    count = 1 if not target.entries else target.entries[0]
    return (
        ShapeValue((int(fill[0]),) * int(count), not target.entries) if isinstance(count, int) and count <= 64 else None
    )


def _elementwise(rule: Callable[..., Entry]) -> Callable[[ir.Node, Sequence[ShapeValue | None]], ShapeValue | None]:
    """Entry by entry, single entries repeated."""

    def apply(node: ir.Node, operands: Sequence[ShapeValue | None]) -> ShapeValue | None:
        parts = [part for part in operands if part is not None]
        if len(parts) < len(operands):
            return None
        size = max(len(part.entries) for part in parts)
        if any(len(part.entries) not in (1, size) for part in parts):
            return None
        columns = [part.entries * size if len(part.entries) == 1 else part.entries for part in parts]
        return ShapeValue(tuple(rule(*row) for row in zip(*columns, strict=True)), all(part.scalar for part in parts))

    return apply


def _add(left: Entry, right: Entry) -> Entry:
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return right if left == 0 else left if right == 0 else None


def _sub(left: Entry, right: Entry) -> Entry:
    if isinstance(left, int) and isinstance(right, int):
        return left - right
    if left is not None and left == right:
        return 0
    return left if right == 0 else None


def _mul(left: Entry, right: Entry) -> Entry:
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    return right if left == 1 else left if right == 1 else None


def _div(left: Entry, right: Entry) -> Entry:
    if isinstance(left, int) and isinstance(right, int):
        return int(math.copysign(abs(left) // abs(right), left * right)) if right else None
    return left if right == 1 else None


def _equal(left: Entry, right: Entry) -> Entry:
    if isinstance(left, int) and isinstance(right, int):
        return int(left == right)
    if left is not None and left == right:
        return 1
    for name, number in ((left, right), (right, left)):
        if isinstance(name, str) and isinstance(number, int) and number < 0:
            return 0  # a dimension is never negative
    return None


def _where(condition: Entry, yes: Entry, no: Entry) -> Entry:
    if isinstance(condition, int):
        return yes if condition else no
    return yes if yes is not None and yes == no else None


def _extreme(pick: Callable[[Sequence[int]], int]) -> Callable[..., Entry]:
    def rule(*entries: Entry) -> Entry:
        numbers = [entry for entry in entries if isinstance(entry, int)]
        if len(numbers) == len(entries):
            return pick(numbers)
        return entries[0] if len(set(entries)) == 1 else None

    return rule


_RULES: Mapping[str, Callable[[ir.Node, Sequence[ShapeValue | None]], ShapeValue | None]] = {
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Identity": _same,
    "Cast": _same,
    "ConstantOfShape": _constant_of_shape,
    "Add": _elementwise(_add),
    "Sub": _elementwise(_sub),
    "Mul": _elementwise(_mul),
    "Div": _elementwise(_div),
    "Equal": _elementwise(_equal),
    "Where": _elementwise(_where),
    "Max": _elementwise(_extreme(max)),
    "Min": _elementwise(_extreme(min)),
}


def reshaped(data: tuple[Entry, ...] | None, target: tuple[Entry, ...], allow_zero: bool) -> tuple[Entry, ...]:
    """The shape that Reshape gives: 0 copies a dimension, -1 takes what is left (an integer or a name)."""
    result: list[Entry] = list(target)
    for index, entry in enumerate(target):
        if entry == 0 and not allow_zero:
            result[index] = data[index] if data is not None and index < len(data) else None
    if -1 in target:
        hole = target.index(-1)
        result[hole] = _left_over(data, [entry for index, entry in enumerate(result) if index != hole])
    return tuple(result)


def _left_over(data: tuple[Entry, ...] | None, others: list[Entry]) -> Entry:
    if data is None or None in data or None in others:
        return None
    remaining = list(data)
    number = 1
    for entry in others:
        if isinstance(entry, int):
            number *= entry
        elif entry in remaining:
            remaining.remove(entry)
        else:
            return None
    names = [entry for entry in remaining if isinstance(entry, str)]
    total = math.prod(entry for entry in remaining if isinstance(entry, int))
    if not names:
        return total // number if number and total % number == 0 else None
    return names[0] if len(names) == 1 and total == number else None
