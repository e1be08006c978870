"""Convolution to convolution: a channel may be scaled down in one and up in the next (cross-layer equalization).

Between them stands nothing, or what gives s f(x) for f(s x): ReLU and its leaky relatives, pooling.
"""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph import constant_array, is_constant, sole_consumer
from qcompiler.passes.canonical.forms import ACTIVATION_FORMS, Form, form_of
from qcompiler.passes.sites.readers import Readers, axis_behind, value_graph
from qcompiler.passes.sites.records import Edge, Kind, Operand, Reader, Refusal, Site

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_CURVED = frozenset({
    "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Gelu", "Mish", "Elu", "Selu", "Celu", "Softplus", "Swish", "Clip",
    "Erf", "Exp",
})  # fmt: skip
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def conv_sites(model: ir.Model) -> list[Site | Refusal]:
    """One candidate for each Conv or ConvTranspose whose output a Conv reads, through at most such operators.

    The tensor is what stands behind the activation function. Only scales: a shift is not exact where padding comes in.
    """
    found = []
    for node in model.graph:
        candidate = _candidate(node)
        if candidate is not None:
            found.append(candidate)
    return found


def _candidate(node: ir.Node) -> Site | Refusal | None:
    made = _source(node)
    if made is None or form_of(node) is Form.SPLIT:
        return None
    weight, bias, channels = made
    value = node.outputs[0]
    activation = sole_consumer(value)
    if activation is not None and activation.domain == "" and activation.op_type in ("Relu", "LeakyRelu", "PRelu"):
        value = activation.outputs[0]
    dims = len(value.shape) if value.shape is not None else 0
    if dims < 3 or (activation is not None and not _keeps_channels(activation)):
        return None
    readers = _follow(value, 1 - dims)
    if not readers.layers and not any(_is_conv(edge.node) for edge in readers.edges):
        return _behind_curve(activation)
    reason = readers.refusal or _why_edges(readers.edges)
    if reason:
        return Refusal(Kind.CONV, str(value.name), reason)
    return Site(Kind.CONV, value, channels, (weight,), bias, tuple(readers.layers), axis=1 - dims, shifts=False)


def _source(node: ir.Node) -> tuple[Operand, Operand | None, int] | None:
    """Weight by output channel, bias and channels of a convolution with constants."""
    if node.domain != "" or node.op_type not in ("Conv", "ConvTranspose") or len(node.inputs) < 2:
        return None
    array = constant_array(node.inputs[1])
    bias = Operand(node, 2) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if array is None or not is_constant(node.inputs[1]) or array.dtype.kind != "f":
        return None
    if bias is not None and (constant_array(bias.value) is None or not is_constant(bias.value)):
        return None
    axis = 0 if node.op_type == "Conv" else 1
    if axis == 1 and node.attributes.get_int("group", 1) != 1:
        return None
    return Operand(node, 1, axis), bias, int(array.shape[axis])


def _follow(value: ir.Value, axis: int) -> Readers:
    """The Convs that read the channels, and everything else, past pooling and layout operators."""
    found = Readers()
    queue = [(value, axis)]
    while queue:
        current, where = queue.pop(0)
        if current.is_graph_output():
            found.refusal = f"{current.name} is an output of the model"
        for use in current.uses():
            node = use.node
            layer = conv_reader(node, use.idx, where)
            moved = axis_behind(node, where) if use.idx == 0 else None
            if node.graph is not value_graph(value):
                found.refusal = f"{current.name} is read inside the body of {node.op_type}"
            elif layer is not None:
                found.layers.append(layer)
            elif use.idx == 0 and node.op_type in _HOMOGENEOUS and node.domain == "" and _keeps_channels(node):
                queue.append((node.outputs[0], where))
                found.refusal = found.refusal or ("its indices are read" if len(node.outputs) > 1 else "")
            elif moved is not None:
                queue += [(output, moved) for output in node.outputs]
            elif node.op_type != "Shape":
                found.edges.append(Edge(node, use.idx, where))
    return found


def conv_reader(node: ir.Node, index: int, axis: int) -> Reader | None:
    """A Conv or ConvTranspose of one group, or a depthwise Conv, as a reader of the channels at `axis`.

    No shift passes its padding, or the places of its kernel.
    """
    if index != 0 or not (_is_conv(node) or (node.domain == "" and node.op_type == "ConvTranspose")):
        return None
    weight = node.inputs[1]
    if weight is None or not is_constant(weight) or weight.const_value is None or weight.dtype not in _FLOATS:
        return None
    shape, groups = weight.const_value.shape.numpy(), node.attributes.get_int("group", 1)
    if len(shape) + axis != 1:
        return None
    bias = Operand(node, 2) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if node.op_type == "ConvTranspose":
        return Reader(Operand(node, 1, 0), 1, None) if groups == 1 else None
    if groups == 1:
        return Reader(Operand(node, 1, 1), 0, bias)
    return Reader(Operand(node, 1, 0), 0, bias) if shape[1] == 1 and shape[0] == groups else None


def _is_conv(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type == "Conv" and len(node.inputs) > 1


def _keeps_channels(node: ir.Node) -> bool:
    """False for a PRelu with slopes computed at run time, whose sign of x decides but whose size may depend on it."""
    return node.op_type != "PRelu" or constant_array(node.inputs[1]) is not None


def _behind_curve(activation: ir.Node | None) -> Refusal | None:
    """A near miss: Convs read what a function that is not homogeneous makes of the channels."""
    if activation is None or not (activation.op_type in _CURVED or form_of(activation) in ACTIVATION_FORMS):
        return None
    output = activation.outputs[0]
    if not any(_is_conv(use.node) and use.idx == 0 for use in output.uses()):
        return None
    form = form_of(activation)
    name = form.value if form in ACTIVATION_FORMS else activation.op_type
    return Refusal(Kind.CONV, str(output.name), f"{name} of a scaled channel is not the scaled {name}")


def _why_edges(edges: list[Edge]) -> str:
    if not edges:
        return ""
    grouped = [edge for edge in edges if _is_conv(edge.node)]
    if grouped:
        return f"{grouped[0].node.name} is a Conv in groups, or its weight is no constant"
    return f"{', '.join(sorted({edge.node.op_type for edge in edges}))} reads it too"
