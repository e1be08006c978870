"""The layer that makes a value: weight, bias and output channels."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph import sole_consumer
from qcompiler.passes.canonical.matching import producer
from qcompiler.passes.sites.readers import reader_of
from qcompiler.passes.sites.records import Operand


def layer_made(value: ir.Value | None) -> tuple[Operand, Operand | None, int] | None:
    """Weight (with the axis of its output channels), bias and channels of the layer that made the value."""
    node = producer(value, "Add", "MatMul", "Gemm")
    if node is not None and node.op_type == "Add":
        node = next((made for item in node.inputs if (made := producer(item, "MatMul")) is not None), None)
    if node is None or value is None:
        return None
    layer = reader_of(node, 0, -1)
    if layer is None:
        return None
    last = layer.bias.node.outputs[0] if layer.bias is not None else node.outputs[0]
    if last is not value or (node is not value.producer() and sole_consumer(node.outputs[0]) is None):
        return None
    array = layer.weight.value.const_value
    if array is None:
        return None
    return Operand(node, 1, layer.outputs), layer.bias, int(array.shape.numpy()[layer.outputs])
