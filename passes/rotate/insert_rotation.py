"""A rotation as nodes: MatMul with a constant that the planner leaves in float."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, make_node
from qcompiler.passes.canonical.forms import Form, Role, annotate
from qcompiler.passes.rotate.draws import Draw
from qcompiler.passes.rotate.hadamard import factors, rotation
from qcompiler.passes.rotate.orders import parts_of
from qcompiler.passes.rotate.turn import Turn


def online_turn(size: int, draw: Draw) -> Turn:
    """The rotation of `size` channels that costs least as nodes: of two factors above 64 channels.

    onnxruntime, one thread, a rotation of 1536 channels in front of an int8 MatMul to 576, 128 tokens: as one matrix
    the two take 9.3 times as long as the MatMul alone, in blocks of 128 1.6 times, as 48 (x) 32 1.6 times, and that
    mixes all channels.

    An order that is the product of one of each factor goes into these; another one stays in the turn, for whoever
    inserts it to move in front.
    """
    (left, right), order = factors(size), draw.places(size)
    if left == 1:
        return Turn(rotation(right, draw.seed, order))
    parts = parts_of(order, left, right) if order else ((), ())
    rows, columns = parts or ((), ())
    rest = None if parts is not None else np.asarray(order, np.int64)
    return Turn(rotation(right, draw.seed, columns), rotation(left, draw.seed, rows), rest)


class RotationInserter:
    """Adds rotations to one model; equal constants are shared."""

    def __init__(self, model: ir.Model, names: FreshNames) -> None:
        self._graph, self._names = model.graph, names
        self._held: dict[tuple[bytes, str], ir.Value] = {}

    def insert(self, value: ir.Value, by: Turn, before: ir.Node) -> ir.Value:
        """value [.., channels] -> MatMul(R)   or   Reshape [.., m, b] -> MatMul(R) -> MatMul(L) -> Reshape.

        Args:
            before: A reader, in front of which the new nodes stand where the value is an input of the graph; else they
                stand behind what makes it.

        Returns:
            What they make.
        """
        if by.left is None:
            return self._product(value, self._matrix(by.right, value), value, before, value.shape)
        assert value.shape is not None
        dims, (m, b) = len(value.shape), (len(by.left), len(by.right))
        split = ir.Shape([*list(value.shape)[:-1], m, b])
        parts = self._reshape(value, [0] * (dims - 1) + [m, b], split, before)
        mixed = self._product(parts, self._matrix(by.right, value), value, before, split)
        mixed = self._product(self._matrix(by.left.T, value), mixed, value, before, split)
        return self._reshape(mixed, [0] * (dims - 1) + [m * b], value.shape, before)

    def insert_columns(self, value: ir.Value, by: Turn, before: ir.Node) -> ir.Value:
        """value [.., channels, positions] -> MatMul(R^T, .)."""
        return self._product(self._matrix(by.right.T, value), value, value, before, value.shape)

    def _product(
        self, left: ir.Value, right: ir.Value, value: ir.Value, before: ir.Node, shape: ir.Shape | None
    ) -> ir.Value:
        name = self._names(f"{value.name}_rotated")
        node = make_node("MatMul", [left, right], output=name, dtype=value.dtype, shape=shape)
        annotate(node, Form.ROTATION, Role.WHOLE, str(value.name))
        return self._placed(node, left if left.const_value is None else right, before)

    def _reshape(self, value: ir.Value, sizes: list[int], shape: ir.Shape, before: ir.Node) -> ir.Value:
        target = self._constant(np.array(sizes, np.int64), "rotation_shape")
        name = self._names(f"{value.name}_reshaped")
        node = make_node("Reshape", [value, target], output=name, dtype=value.dtype, shape=shape)
        return self._placed(node, value, before)

    def _placed(self, node: ir.Node, data: ir.Value, before: ir.Node) -> ir.Value:
        maker = data.producer()
        if maker is None:
            self._graph.insert_before(before, node)
        else:
            self._graph.insert_after(maker, node)
        return node.outputs[0]

    def _matrix(self, matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]], like: ir.Value) -> ir.Value:
        return self._constant(matrix.astype(like.dtype.numpy() if like.dtype is not None else np.float32), "rotation")

    def _constant(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], name: str) -> ir.Value:
        key = (array.tobytes(), f"{array.dtype}{array.shape}")
        if key not in self._held:
            self._held[key] = add_initializer(self._graph, array, self._names(name))
        return self._held[key]
