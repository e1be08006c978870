"""A product with int4 weights in blocks to onnxruntime's MatMulNBits.

    x @ DQ(w int4 [K, N], scales [K / block, N])
        ->  MatMulNBits(x, w uint8 [N, K / block, block / 2], scales [N * K / block])    com.microsoft

Two codes a byte, the even one in the low half, each plus 8: without zero points that is the operator's zero.
Gemm's bias becomes an Add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.lower_products import MICROSOFT
from qcompiler.backends.onnxruntime.operands import Array, Lowering
from qcompiler.graph import constant_array
from qcompiler.pipeline import Outcome, Pass, Skip

_FLOAT_ARITHMETIC = 1
"""accuracy_level: float32 products; 4 would quantize the activations to int8 at run time."""


@dataclass(frozen=True)
class LowerBlocks(Pass):
    """Every MatMul and Gemm whose second input is a constant of int4 in blocks along the summed axis."""

    name: ClassVar[str] = "lower-blocks"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        lowering = Lowering(model)
        matched, skipped = [], []
        for node in list(model.graph):
            if node.op_type not in ("MatMul", "Gemm") or node.domain not in ("", "ai.onnx"):
                continue
            pair = None if node.inputs[1] is None else node.inputs[1].producer()
            if pair is None or pair.op_type != "DequantizeLinear" or not pair.attributes.get_int("block_size", 0):
                continue
            codes, scale = constant_array(pair.inputs[0]), constant_array(pair.inputs[1])
            transposed = node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
            if codes is None or scale is None or pair.attributes.get_int("axis", 1) != int(transposed):
                skipped.append(Skip(str(node.name), "blocks that do not lie along the summed axis of a constant"))
            elif node.op_type == "Gemm" and _scaled(node):
                skipped.append(Skip(str(node.name), "Gemm with alpha, beta or a transposed activation"))
            else:
                _lower(lowering, node, pair, codes if transposed else codes.T, scale if transposed else scale.T)
                matched.append(str(node.name))
        if matched:
            model.opset_imports.setdefault(MICROSOFT, 1)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _scaled(node: ir.Node) -> bool:
    factors = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    return factors != [1.0, 1.0] or bool(node.attributes.get_int("transA", 0))


def _lower(lowering: Lowering, node: ir.Node, pair: ir.Node, codes: Array, scale: Array) -> None:
    """`codes` [N, K] and `scale` [N, K / block]."""
    size, (columns, rows) = pair.attributes.get_int("block_size", 0), codes.shape
    base = str(pair.outputs[0].name)
    packed = lowering.constant((base, "blocks"), packed_blocks(codes, size), f"{base}/blocks")
    scales = lowering.constant((base, "scales"), np.ascontiguousarray(scale).reshape(-1), f"{base}/scales")
    attributes = {"K": rows, "N": columns, "bits": 4, "block_size": size, "accuracy_level": _FLOAT_ARITHMETIC}
    made = [
        lowering.node(
            "MatMulNBits", [node.inputs[0], packed, scales], "product", node, domain=MICROSOFT, attributes=attributes
        )
    ]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        made.append(lowering.node("Add", [made[0].outputs[0], bias], "sum", node))
    lowering.put(made, node)


def packed_blocks(codes: Array, size: int) -> Array:
    """int4 codes [N, K] as uint8 [N, K / size, size / 2]."""
    moved = (codes.astype(np.int8) + 8).astype(np.uint8).reshape(codes.shape[0], -1, size)
    return np.asarray(moved[:, :, 0::2] | (moved[:, :, 1::2] << 4))
