"""Rules on where pairs stand: what fuses into integer kernels and what only costs time or accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompiler.backends.tensorrt.lint_rule import (
    WEIGHTED_OPS,
    Finding,
    Rule,
    Scope,
    is_weight,
    label,
    operand,
    producer,
)
from qcompiler.diagnostics import Severity
from qcompiler.graph import constant_array, rank

_LAYOUT: Final = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice")
_INNER: Final = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "Gelu", "Erf", "Exp"})


def weight_axis(node: ir.Node, index: int, size: int) -> int | None:
    """The output channel axis of a weighted operator's constant input of `size` dimensions; None where it has none."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return None if size < 2 else size - 1 if index == 1 else size - 2


def _axes(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        if node.op_type not in WEIGHTED_OPS:
            continue
        for index in (0, 1):
            pair = producer(operand(node, index), "DequantizeLinear")
            if pair is None or not is_weight(pair) or pair.attributes.get_int("block_size", 0) > 0:
                continue
            scale = constant_array(operand(pair, 1))
            size = rank(pair.inputs[0])
            wanted = None if size is None else weight_axis(node, index, size)
            if scale is None or scale.size < 2 or size is None or wanted is None:
                continue
            axis = pair.attributes.get_int("axis", 1) % size
            if axis != wanted:
                message = f"the weight of {node.op_type} {label(node)} is scaled along axis {axis}, not {wanted}"
                yield Finding(label(pair), message)


def _adjacent(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        source = producer(operand(node, 0), "DequantizeLinear") if node.op_type in _LAYOUT else None
        if source is not None and not is_weight(source):
            yield Finding(label(source), f"feeds {node.op_type} {label(node)} and not its consumer")


def _inner_pairs(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        if node.op_type in _INNER and producer(operand(node, 0), "DequantizeLinear") is not None:
            yield Finding(label(node), f"the input of {node.op_type} is quantized")
        elif node.op_type == "Add" and any(reader.op_type == "Softmax" for reader in node.outputs[0].consumers()):
            for value in node.inputs:
                if producer(value, "DequantizeLinear") is not None:
                    yield Finding(label(node), "an addend of the Softmax input, scores or additive mask, is quantized")


def _left_in_float(scope: Scope) -> Iterator[Finding]:
    weighted = [node for node in scope.nodes if node.op_type in WEIGHTED_OPS]
    states = {
        node: [producer(operand(node, index), "DequantizeLinear") is not None for index in (0, 1)] for node in weighted
    }
    if not any(all(state) for state in states.values()):
        return
    for node, state in states.items():
        if not any(state):
            yield Finding(label(node), f"{node.op_type} stays float among integer ones")


def _half_quantized(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        if node.op_type not in WEIGHTED_OPS:
            continue
        pairs = [producer(operand(node, index), "DequantizeLinear") for index in (0, 1)]
        if sum(pair is not None for pair in pairs) == 1:
            missing = 0 if pairs[0] is None else 1
            quantized = pairs[1 - missing]
            if quantized is not None and is_weight(quantized) and scope.code_type(quantized) != ir.DataType.INT8:
                continue  # weight-only int4 is a scheme of its own
            yield Finding(label(node), f"input {missing} of {node.op_type} is float, so the kernel is too")


def _biases(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        pair = producer(operand(node, 2), "DequantizeLinear") if node.op_type in WEIGHTED_OPS else None
        if pair is not None and scope.code_type(pair) != ir.DataType.INT32:
            yield Finding(label(pair), f"quantizes the bias of {node.op_type} {label(node)}")


def _concats(scope: Scope) -> Iterator[Finding]:
    for node in scope.nodes:
        if node.op_type != "Concat":
            continue
        sources = [producer(value, "DequantizeLinear", "QuantizeLinear") for value in node.inputs]
        scales = [constant_array(operand(pair, 1)) for pair in sources if pair is not None]
        known = [scale for scale in scales if scale is not None]
        if len(known) > 1 and any(not np.array_equal(scale, known[0]) for scale in known[1:]):
            yield Finding(label(node), "the inputs of Concat have different scales")


PLACEMENT_RULES: tuple[Rule, ...] = (
    Rule(
        "QC520", "Weights are scaled along their output channels", _axes, "quantize along that axis", Severity.WARNING
    ),
    Rule(
        "QC522", "DequantizeLinear feeds its consumer", _adjacent, "move the pair below the operator",
        Severity.WARNING,
    ),
    Rule("QC523", "Softmax, norms and activations stay float", _inner_pairs, "remove the pair", Severity.WARNING),
    Rule("QC524", "Weighted operators in float are noticed", _left_in_float, "quantize its inputs", Severity.INFO),
    Rule("QC525", "Concat inputs share a scale", _concats, "give all inputs the largest scale", Severity.WARNING),
    Rule(
        "QC526", "Both inputs of a weighted operator are quantized", _half_quantized, "quantize both or none",
        Severity.WARNING,
    ),
    Rule("QC527", "Biases are float", _biases, "keep the bias float", Severity.WARNING),
)
