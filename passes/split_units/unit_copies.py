"""A few channels of a hidden layer computed once more, by nodes of their own, from what the layer's sources read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from qcompiler.graph import constant_array, is_constant, make_node, rank
from qcompiler.passes.canonical.forms import Form, Role, annotate
from qcompiler.passes.sites.readers import axis_behind, reader_of
from qcompiler.passes.sites.records import Channels, Operand

LAYERS = frozenset({"MatMul", "Gemm", "Conv"})
UNARY = frozenset({
    "Abs", "Cast", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Log", "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
    "ThresholdedRelu",
})  # fmt: skip
"""Channel by channel; further inputs (of Clip) are the same for all channels."""
BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Sum"})
LAYOUT = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_MOST_NODES = 64
Constants: TypeAlias = Callable[["np.ndarray[Any, Any]", str], ir.Value]
"""Gives a constant for an array and the name that it would like to have."""


class Refused(Exception):
    """The channels cannot be computed apart; the text is the reason."""


class UnitCopies:
    """Nodes that give some channels of a value, not yet in the graph.

    From layers (MatMul, Gemm, 1x1 Conv with a constant weight) through operators that act channel by channel or move
    channels as a whole, and through a Split or Slice of one layer's channels: what GELU, SiLU or ReLU and gates are
    made of, fused or not.

    Attributes:
        nodes: In an order that they can run in.
        columns: What the channels take in each layer: (weight or bias, with the axis of output channels) and which.
        cone: Nodes that make the value, the layers among them.
    """

    def __init__(self, graph: ir.Graph, names: Callable[[str], str], constants: Constants) -> None:
        self._graph, self._names, self._constants = graph, names, constants
        self._made: dict[tuple[ir.Value, int, bytes], ir.Value] = {}
        self.nodes: list[ir.Node] = []
        self.columns: list[tuple[Operand, Channels]] = []
        self.cone: set[ir.Node] = set()

    def take(self, value: ir.Value, channels: Channels, axis: int = -1) -> ir.Value:
        """The value's channels `channels`, which lie along `axis`, counted from the end.

        Raises:
            Refused: Where the value is not made channel by channel from layers.
        """
        key = (value, axis, channels.tobytes())
        if key not in self._made:
            self._made[key] = self._take(value, channels, axis)
        return self._made[key]

    def discard(self) -> None:
        """Undo that the new nodes read values of the graph."""
        for node in self.nodes:
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)

    def _take(self, value: ir.Value, channels: Channels, axis: int) -> ir.Value:
        if is_constant(value):
            return self._constant(value, channels, axis)
        if value.shape is not None and (len(value.shape) < -axis or value.shape[axis] == 1):
            return value  # one number for all channels
        node = value.producer()
        if node is None or node.graph is not self._graph:
            raise Refused(f"{value.name} is not made by a layer")
        self.cone.add(node)
        if len(self.cone) > _MOST_NODES:
            raise Refused(f"more than {_MOST_NODES} operators make it")
        data = node.inputs[0] if node.inputs else None
        if node.domain != "" or data is None:
            raise Refused(f"{node.op_type} may mix channels")
        if node.op_type in LAYERS:
            return self._layer(node, channels, axis)
        if node.op_type in ("Split", "Slice"):
            return self.take(data, channels + _offset(node, value, axis), axis)
        if node.op_type in LAYOUT:
            return self._moved(node, data, channels, axis)
        if node.op_type in UNARY and all(item is None or is_constant(item) for item in node.inputs[1:]):
            return self._copy(node, [self.take(data, channels, axis), *node.inputs[1:]], channels.size, axis)
        if node.op_type in BINARY:
            parts = [self.take(item, channels, axis) for item in node.inputs if item is not None]
            return self._copy(node, [*parts], channels.size, axis)
        raise Refused(f"{node.op_type} may mix channels")

    def _constant(self, value: ir.Value, channels: Channels, axis: int) -> ir.Value:
        array = constant_array(value)
        assert array is not None
        if array.ndim < -axis or array.shape[axis] == 1:
            return value
        return self._constants(np.take(array, channels, axis), f"{value.name}_units")

    def _layer(self, node: ir.Node, channels: Channels, axis: int) -> ir.Value:
        layer = reader_of(node, 0, axis)
        if layer is None:
            raise Refused(f"{node.name} is no layer with a constant weight, or a convolution of several places")
        weight = Operand(node, 1, layer.outputs)
        inputs = [node.inputs[0], self._taken(weight, channels)]
        self.columns.append((weight, channels))
        if layer.bias is not None:
            self.columns.append((layer.bias, channels))
            if layer.bias.node is node:
                inputs.append(self._taken(layer.bias, channels))
        return self._copy(node, inputs, channels.size, axis)

    def _taken(self, operand: Operand, channels: Channels) -> ir.Value:
        array = constant_array(operand.value)
        assert array is not None
        return self._constants(np.take(array, channels, operand.axis), f"{operand.value.name}_units")

    def _moved(self, node: ir.Node, data: ir.Value, channels: Channels, axis: int) -> ir.Value:
        """Through an operator behind which the channels are one axis as before."""
        dims = rank(data) or 0
        before = next((place for place in range(-1, -dims - 1, -1) if axis_behind(node, place) == axis), None)
        if before is None or (node.op_type == "Squeeze" and len(node.inputs) < 2):
            raise Refused(f"{node.op_type} may mix channels")
        inputs = [self.take(data, channels, before), *node.inputs[1:]]
        if node.op_type == "Reshape" and inputs[1] is not None:
            inputs[1] = self._narrow_shape(inputs[1], channels.size, axis)
        return self._copy(node, inputs, channels.size, axis)

    def _narrow_shape(self, shape: ir.Value, width: int, axis: int) -> ir.Value:
        """The same shape with another size at one place, counted from the end."""
        array = constant_array(shape)
        if array is not None:
            place = np.arange(-array.size, 0) == axis
            return self._constants(np.where(place, width, array), f"{shape.name}_units")
        if axis != -1:
            raise Refused("a Reshape to a computed shape whose last axis is another")
        span = [shape, self._numbers(0), self._numbers(-1)]
        front = self._of_sizes("Slice", span, f"{shape.name}_front")
        return self._of_sizes("Concat", [front, self._numbers(width)], f"{shape.name}_units", axis=0)

    def _numbers(self, number: int) -> ir.Value:
        return self._constants(np.array([number], np.int64), f"number_{number}")

    def _of_sizes(self, op_type: str, inputs: list[ir.Value], name: str, **attributes: int) -> ir.Value:
        output = self._names(name)
        made = make_node(op_type, [*inputs], attributes, output=output, dtype=ir.DataType.INT64, shape=ir.Shape([None]))
        self.nodes.append(made)
        return made.outputs[0]

    def _copy(self, node: ir.Node, inputs: list[ir.Value | None], width: int, axis: int) -> ir.Value:
        old = node.outputs[0]
        if old.shape is None:
            raise Refused(f"the rank of {old.name} is not known")
        shape = list(old.shape)
        shape[axis] = width
        name = self._names(f"{old.name}_units")
        made = make_node(
            node.op_type, inputs, dict(node.attributes), output=name, dtype=old.dtype, shape=ir.Shape(shape)
        )
        if node.op_type in LAYERS:
            annotate(made, Form.SPLIT, Role.WHOLE, str(old.name))
        self.nodes.append(made)
        return made.outputs[0]


def _offset(node: ir.Node, value: ir.Value, axis: int) -> int:
    """Where the channels of one output of a Split or Slice begin in its input."""
    dims = rank(node.inputs[0])
    if dims is None:
        raise Refused(f"the rank of what {node.op_type} reads is not known")
    if node.op_type == "Split":
        before = node.outputs[: node.outputs.index(value)]
        sizes = [item.shape[axis] if item.shape is not None else None for item in before]
        if node.attributes.get_int("axis", 0) % dims != dims + axis or not all(isinstance(size, int) for size in sizes):
            raise Refused("a Split along another axis, or of unknown sizes")
        return sum(size for size in sizes if isinstance(size, int))
    arrays = [constant_array(item) if item is not None else None for item in node.inputs[1:]]
    starts, axes, steps = arrays[0], arrays[2] if len(arrays) > 2 else None, arrays[3] if len(arrays) > 3 else None
    plain = starts is not None and starts.size == 1 and axes is not None and axes.item() % dims == dims + axis
    if not plain or starts is None or (steps is not None and steps.item() != 1):
        raise Refused("a Slice along another axis, or with steps")
    start, data = int(starts.item()), node.inputs[0]
    size = data.shape[axis] if data is not None and data.shape is not None else None
    if start < 0 and not isinstance(size, int):
        raise Refused("a Slice from the end of an unknown size")
    return max(0, start + size) if start < 0 and isinstance(size, int) else start
