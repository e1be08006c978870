"""Operations of a node from its shapes: multiplications and additions count as two, as processors' peak rates do."""

from __future__ import annotations

import math
from typing import Final

import onnx_ir as ir

from qcompiler.bench.node_shapes import NodeRun, Shape

MATRIX_OPS: Final = frozenset({
    "MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "LSTM", "GRU", "RNN", "FusedMatMul", "FusedConv", "FusedGemm",
    "QGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "ConvInteger",
    "QLinearConv",
})  # fmt: skip
"""What tensor cores do."""

INTEGER_OPS: Final = frozenset({
    "QGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "ConvInteger",
    "QLinearConv",
})  # fmt: skip

_QLINEAR: Final = frozenset({"QGemm", "QLinearMatMul", "QLinearConv"})
_PER_ELEMENT: Final = {
    "Softmax": 5, "LogSoftmax": 5, "LayerNormalization": 8, "SkipLayerNormalization": 9, "RMSNormalization": 6,
    "SimplifiedLayerNormalization": 6, "InstanceNormalization": 8, "GroupNormalization": 8, "BatchNormalization": 2,
    "Erf": 10, "Gelu": 14, "BiasGelu": 15, "FastGelu": 10, "Exp": 4, "Log": 4, "Sigmoid": 6, "Tanh": 6, "Softplus": 8,
    "Swish": 7, "QuickGelu": 7, "Mish": 12, "HardSwish": 4, "HardSigmoid": 3, "Pow": 8, "Sqrt": 2, "Div": 2, "Sin": 8,
    "Cos": 8, "QuantizeLinear": 4, "DequantizeLinear": 2,
}  # fmt: skip
"""Vector operations an element, counted on the textbook form; others take one. Memory decides nearly always."""

_FREE: Final = frozenset({
    "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Shape", "Size", "Constant", "Scan", "Loop", "If",
})  # fmt: skip


def is_free(node: ir.Node) -> bool:
    """Whether the node moves no element: it renames, reads a shape, or its body's nodes are counted instead."""
    return node.op_type in _FREE


def operations(node: ir.Node, run: NodeRun) -> float:
    """Operations of one call."""
    if is_free(node) or not run.outputs:
        return 0.0
    made = math.prod(run.outputs[0][1])
    inputs = [shape for _, shape in run.inputs]
    if node.op_type in MATRIX_OPS:
        return 2.0 * _products(node, inputs, made)
    if node.op_type in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ArgMax", "GlobalAveragePool"):
        return float(math.prod(inputs[0]))
    if node.op_type in ("MaxPool", "AveragePool"):
        return float(made * math.prod(node.attributes.get_ints("kernel_shape", ())))
    return float(made * _PER_ELEMENT.get(node.op_type, 1))


def _products(node: ir.Node, inputs: list[Shape], made: int) -> float:
    second = 3 if node.op_type in _QLINEAR else 1
    if len(inputs) <= second:
        return float(made)
    left, right = inputs[0], inputs[second]
    if node.op_type == "ConvTranspose":
        return float(math.prod(left) * math.prod(right[1:]))
    if "Conv" in node.op_type:
        return float(made * math.prod(right[1:]))
    if node.op_type in ("LSTM", "GRU", "RNN"):  # X [length, batch, size], W [directions, gates * hidden, size], R
        return float(math.prod(left[:2]) * (math.prod(right) + math.prod(inputs[2])))
    if node.op_type == "Einsum":
        return float(math.sqrt(math.prod(left) * math.prod(right) * made))  # exact for one contracted product
    turned = node.attributes.get_int("transA", 0)
    return float(made * (left[-2] if turned and len(left) > 1 else left[-1]))
