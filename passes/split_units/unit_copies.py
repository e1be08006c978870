"""A few channels of a hidden layer computed once more, by nodes of their own, from what the layer's sources read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, SharedConstants, constant_array, is_constant, make_node, rank
from qcompiler.passes.canonical.forms import Form, Role, annotate
from qcompiler.passes.sites.readers import reader_of
from qcompiler.passes.sites.records import Channels, Operand

UNARY = frozenset({
    "Abs", "Cast", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Log", "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
    "ThresholdedRelu",
})  # fmt: skip
"""Channel by channel; further inputs (of Clip) are the same for all channels."""
BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Sum"})


class Refused(Exception):
    """The channels cannot be computed apart; the text is the reason."""


class UnitCopies:
    """Nodes that give some channels of a value, not yet in the graph.

    From layers (MatMul and Gemm with a constant weight) through operators that act channel by channel, and through a
    Split or Slice of one layer's channels: what GELU, SiLU or ReLU and gates are made of, fused or not.

    Attributes:
        nodes: In an order that they can run in.
        columns: What the channels take in each layer: (weight or bias, with the axis of output channels) and which.
        cone: Nodes that make the value, the layers among them.
    """

    def __init__(self, graph: ir.Graph, names: FreshNames, constants: SharedConstants) -> None:
        self._graph, self._names, self._constants = graph, names, constants
        self._made: dict[tuple[int, bytes], ir.Value] = {}
        self.nodes: list[ir.Node] = []
        self.columns: list[tuple[Operand, Channels]] = []
        self.cone: set[ir.Node] = set()

    def take(self, value: ir.Value, channels: Channels) -> ir.Value:
        """The value's channels `channels`, along its last axis.

        Raises:
            Refused: Where the value is not made channel by channel from layers.
        """
        key = (id(value), channels.tobytes())
        if key not in self._made:
            self._made[key] = self._take(value, channels)
        return self._made[key]

    def discard(self) -> None:
        """Undo that the new nodes read values of the graph."""
        for node in self.nodes:
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)

    def outside_readers(self, value: ir.Value) -> set[str]:
        """Operators outside that read what makes `value`, itself left out."""
        inner = {item for node in self.cone for item in node.outputs if item is not value}
        used = {use.node.op_type for item in inner for use in item.uses() if use.node not in self.cone}
        return used - {"Shape"} | {"the model's outputs" for item in inner if item.is_graph_output()}

    def _take(self, value: ir.Value, channels: Channels) -> ir.Value:
        if is_constant(value):
            return self._constant(value, channels)
        if value.shape is not None and len(value.shape) and value.shape[-1] == 1:
            return value  # one number for all channels
        node = value.producer()
        if node is None or node.graph is not self._graph:
            raise Refused(f"{value.name} is not made by a layer")
        self.cone.add(node)
        if node.op_type in ("MatMul", "Gemm"):
            return self._layer(node, channels)
        data = node.inputs[0] if node.inputs else None
        if node.domain != "" or data is None:
            raise Refused(f"{node.op_type} may mix channels")
        if node.op_type in ("Split", "Slice"):
            return self.take(data, channels + _offset(node, value))
        if node.op_type in UNARY and all(item is None or is_constant(item) for item in node.inputs[1:]):
            return self._copy(node, [self.take(data, channels), *node.inputs[1:]], channels.size)
        if node.op_type in BINARY:
            parts = [self.take(item, channels) for item in node.inputs if item is not None]
            return self._copy(node, [*parts], channels.size)
        raise Refused(f"{node.op_type} may mix channels")

    def _constant(self, value: ir.Value, channels: Channels) -> ir.Value:
        array = constant_array(value)
        assert array is not None
        if array.size == 1 or array.shape[-1] == 1:
            return value
        return self._constants(array[..., channels], f"{value.name}_units")

    def _layer(self, node: ir.Node, channels: Channels) -> ir.Value:
        layer = reader_of(node, 0, -1)
        if layer is None:
            raise Refused(f"{node.name} is no layer with a constant weight")
        weight = Operand(node, 1, layer.outputs)
        inputs = [node.inputs[0], self._taken(weight, channels)]
        self.columns.append((weight, channels))
        if layer.bias is not None and layer.bias.node is node:
            inputs.append(self._taken(layer.bias, channels))
            self.columns.append((layer.bias, channels))
        elif layer.bias is not None:
            self.columns.append((layer.bias, channels))
        return self._copy(node, inputs, channels.size)

    def _taken(self, operand: Operand, channels: Channels) -> ir.Value:
        array = constant_array(operand.value)
        assert array is not None
        return self._constants(np.take(array, channels, operand.axis), f"{operand.value.name}_units")

    def _copy(self, node: ir.Node, inputs: list[ir.Value | None], width: int) -> ir.Value:
        old = node.outputs[0]
        if old.shape is None:
            raise Refused(f"the rank of {old.name} is not known")
        shape = ir.Shape([*list(old.shape)[:-1], width])
        name = self._names(f"{old.name}_units")
        made = make_node(node.op_type, inputs, dict(node.attributes), output=name, dtype=old.dtype, shape=shape)
        if node.op_type in ("MatMul", "Gemm"):
            annotate(made, Form.SPLIT, Role.WHOLE, str(old.name))
        self.nodes.append(made)
        return made.outputs[0]


def _offset(node: ir.Node, value: ir.Value) -> int:
    """Where the channels of one output of a Split or Slice begin in its input."""
    dims = rank(node.inputs[0])
    if dims is None:
        raise Refused(f"the rank of what {node.op_type} reads is not known")
    if node.op_type == "Split":
        before = node.outputs[: node.outputs.index(value)]
        sizes = [item.shape[-1] if item.shape is not None else None for item in before]
        if node.attributes.get_int("axis", 0) % dims != dims - 1 or not all(isinstance(size, int) for size in sizes):
            raise Refused("a Split along another axis, or of unknown sizes")
        return sum(size for size in sizes if isinstance(size, int))
    arrays = [constant_array(item) if item is not None else None for item in node.inputs[1:]]
    starts, axes, steps = arrays[0], arrays[2] if len(arrays) > 2 else None, arrays[3] if len(arrays) > 3 else None
    plain = starts is not None and starts.size == 1 and axes is not None and int(axes.reshape(-1)[0]) % dims == dims - 1
    if not plain or starts is None or (steps is not None and int(steps.reshape(-1)[0]) != 1):
        raise Refused("a Slice along another axis, or with steps")
    start, data = int(starts.reshape(-1)[0]), node.inputs[0]
    size = data.shape[-1] if data is not None and data.shape is not None else None
    if start < 0 and not isinstance(size, int):
        raise Refused("a Slice from the end of an unknown size")
    return start + size if start < 0 and isinstance(size, int) else start
