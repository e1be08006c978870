"""Constants multiplied by an orthogonal matrix along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array
from qcompiler.passes.rotate.hadamard import Matrix
from qcompiler.passes.sites.records import Channels, Operand, Reals

_ROWS = 8192
"""Rows that are held in float64 at a time: tables of embeddings are large."""


@dataclass(frozen=True, slots=True)
class Turn:
    """K = P (left (x) right), orthogonal [m b, m b]: x [m b] becomes x K; only the factors and the order are held.

    Attributes:
        left: [m, m]; None for the unit matrix of any size (every block alike).
        right: [b, b].
        order: P, the channel at each place; None for channels as they are.
    """

    right: Matrix
    left: Matrix | None = None
    order: Channels | None = None

    def __call__(self, array: np.ndarray[Any, Any], axis: int = -1) -> Reals:
        """array K along `axis`, computed in float64 and rounded once to the array's type."""
        moved = np.moveaxis(array, axis, -1)
        flat = moved.reshape(-1, moved.shape[-1])
        size = len(self.right)
        made = np.empty(flat.shape, array.dtype)
        for first in range(0, len(flat), _ROWS):
            part = flat[first : first + _ROWS].astype(np.float64)
            part = part if self.order is None else part[:, self.order]
            part = part.reshape(len(part), -1, size) @ self.right
            if self.left is not None:
                part = self.left.T @ part
            made[first : first + _ROWS] = part.reshape(len(part), -1)
        return np.ascontiguousarray(np.moveaxis(made.reshape(moved.shape), -1, axis))


class WeightEditor:
    """New constants in place of old ones; what several nodes share and is turned alike stays shared."""

    def __init__(self, model: ir.Model, suffix: str = "rotated") -> None:
        self.names = FreshNames(model)
        self._suffix = suffix
        self._made: dict[tuple[int, int, int, bytes, bytes], tuple[ir.Value, ir.Value]] = {}

    def turn(self, operand: Operand, by: Turn, gain: Reals | None = None, part: Channels | None = None) -> None:
        """The operand times `gain` (by channel) times K, along its axis; of its channels only `part`, if given."""
        old = operand.value
        gains, parts = (b"" if item is None else item.tobytes() for item in (gain, part))
        key = (id(old), operand.axis, id(by), gains, parts)
        if key not in self._made:
            array = wide_array(old) if gain is not None else _array(old)
            if gain is not None:
                form = [1] * array.ndim
                form[operand.axis] = -1
                array = array * gain.reshape(form)
            turned = by(array, operand.axis) if part is None else _part_turned(array, by, operand.axis, part)
            self._made[key] = (old, self._constant(operand, turned))  # old is kept: ids come again
        operand.node.replace_input_with(operand.index, self._made[key][1])

    def reorder(self, operand: Operand, order: Channels) -> None:
        """The operand with channel order[k] at place k, along its axis."""
        old = operand.value
        key = (id(old), operand.axis, 0, order.tobytes(), b"order")
        if key not in self._made:
            self._made[key] = (old, self._constant(operand, np.take(_array(old), order, axis=operand.axis)))
        operand.node.replace_input_with(operand.index, self._made[key][1])

    def put(self, operand: Operand, numbers: Reals) -> None:
        """These numbers in place of the operand."""
        operand.node.replace_input_with(operand.index, self._constant(operand, numbers))

    def _constant(self, operand: Operand, numbers: Reals) -> ir.Value:
        graph, old = operand.node.graph, operand.value
        assert isinstance(graph, ir.Graph)
        dtype = old.dtype.numpy() if old.dtype is not None else np.float32
        return add_initializer(graph, numbers.astype(dtype), self.names(f"{old.name}_{self._suffix}"))


def _part_turned(array: np.ndarray[Any, Any], by: Turn, axis: int, part: Channels) -> Reals:
    made = np.moveaxis(array, axis, -1).copy()
    made[..., part] = by(made[..., part])
    return np.ascontiguousarray(np.moveaxis(made, -1, axis))


def wide_array(value: ir.Value) -> Reals:
    """A constant in float64."""
    return _array(value).astype(np.float64)


def form_of_bias(operand: Operand, numbers: Reals) -> Reals:
    """A vector in the shape that the bias operand has."""
    old: Sequence[int] = _array(operand.value).shape
    return numbers.reshape(old) if int(np.prod(old)) == numbers.size else numbers


def _array(value: ir.Value) -> Reals:
    array = constant_array(value)
    if array is None:
        raise ValueError(f"{value.name} is no constant")
    return array
