"""Where a quantized layer's bias is, or can be put at no cost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, is_constant, sole_consumer
from qcompiler.pipeline import Skip

Array = np.ndarray[Any, Any]
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True)
class BiasPlace:
    """A layer with a weight, and the input that holds its bias.

    Attributes:
        layer: Name of the Conv, ConvTranspose, Gemm or MatMul.
        node: The node that takes the bias: the layer, or the Add behind a MatMul.
        index: Which of its inputs; past its last one where a layer has none yet.
        output: The sum with the bias.
        axis: Where the channels lie in the output, counted from its front.
        channels: How many there are.
    """

    layer: str
    node: ir.Node
    index: int
    output: ir.Value
    axis: int
    channels: int


def bias_places(model: ir.Model, layers: Collection[str]) -> tuple[list[BiasPlace], list[Skip]]:
    """The places of the nodes called `layers`, in graph order; the others with the reason why they have none."""
    places, skipped = [], []
    for node in model.graph:
        if node.name not in layers:
            continue
        found = _place(node)
        if isinstance(found, BiasPlace):
            places.append(found)
        else:
            skipped.append(Skip(str(node.name), found))
    return places, skipped


def add_to_bias(graph: ir.Graph, place: BiasPlace, numbers: Array, names: FreshNames) -> None:
    """Add [channels] numbers, in float64 and rounded once; nothing that others read changes."""
    node = place.node
    old = node.inputs[place.index] if place.index < len(node.inputs) else None
    array = constant_array(old)
    total = numbers if array is None else array.reshape(-1).astype(np.float64) + numbers
    shape = (place.channels,) if array is None else array.shape
    dtype = np.dtype(np.float32) if array is None else array.dtype
    wish = f"{place.layer}_bias" if old is None else f"{old.name}_corrected"
    new = add_initializer(graph, np.asarray(total, dtype).reshape(shape), names(wish))
    if place.index >= len(node.inputs):
        node.resize_inputs(place.index + 1)
    node.replace_input_with(place.index, new)
    if old is not None and old.producer() is None and not old.uses() and not old.is_graph_output():
        graph.initializers.pop(str(old.name), None)


def _weight_shape(weight: ir.Value | None) -> tuple[int, ...]:
    """Of a constant, or of constant codes behind a DequantizeLinear; empty for anything else."""
    maker = None if weight is None else weight.producer()
    if maker is not None and maker.op_type == "DequantizeLinear":
        weight = maker.inputs[0]
    if weight is None or not is_constant(weight) or weight.const_value is None:
        return ()
    return tuple(int(size) for size in weight.const_value.shape.numpy())


def _place(node: ir.Node) -> BiasPlace | str:
    if node.op_type not in _LAYERS or node.domain != "":
        return "it is no layer"
    shape = _weight_shape(node.inputs[1] if len(node.inputs) > 1 else None)
    if not shape:
        return "its second input is no constant weight"
    output = node.outputs[0]
    if node.op_type == "MatMul":
        return _added(node, int(shape[-1]))
    if node.op_type == "Gemm":
        if node.attributes.get_float("beta", 1.0) != 1:
            return "a Gemm that scales its bias"
        channels, axis = int(shape[0 if node.attributes.get_int("transB", 0) else 1]), 1
    elif node.op_type == "ConvTranspose":
        channels, axis = int(shape[1]) * node.attributes.get_int("group", 1), 1
    else:
        channels, axis = int(shape[0]), 1
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return _checked(BiasPlace(str(node.name), node, 2, output, axis, channels), bias)


def _added(node: ir.Node, channels: int) -> BiasPlace | str:
    """MatMul -> Add(constant row): kernels take both as one."""
    add = sole_consumer(node.outputs[0])
    if add is None or add.op_type != "Add" or add.domain != "":
        return "a MatMul without a bias behind it"
    index = 1 if add.inputs[0] is node.outputs[0] else 0
    bias, output = add.inputs[index], add.outputs[0]
    array = constant_array(bias)
    if array is None or array.size != channels or array.shape[-1:] != (channels,) or output.shape is None:
        return "a MatMul without a bias behind it"
    return _checked(BiasPlace(str(node.name), add, index, output, len(output.shape) - 1, channels), bias)


def _checked(place: BiasPlace, bias: ir.Value | None) -> BiasPlace | str:
    if bias is not None:
        array = constant_array(bias)
        if array is None:
            return "its bias is computed at run time"
        if array.size != place.channels:
            return "its bias is not one number for each channel"
    if place.output.shape is None:
        return "the rank of its output is unknown"
    if place.output.dtype not in (None, ir.DataType.FLOAT):
        return "its output is not float32"
    return place
