"""MatMul and Gemm between dequantized inputs to integer products.

    DQ(a) @ DQ(b) [+ bias]  ->  MatMulIntegerToFloat(a, b, scales, zero points[, bias])   com.microsoft
                            ->  Cast(MatMulInteger(a, b, zero points)) * scale [+ bias]   portable

A pair that onnxruntime does not fuse by itself makes INT8 slower than float32, so nothing is left to its fusions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.operands import Lowering, Operand, operand_of
from qcompiler.graph import constant_array, sole_consumer
from qcompiler.numerics import pairs_fit
from qcompiler.pipeline import Outcome, Pass, Skip

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class LowerProducts(Pass):
    """Every MatMul and Gemm with two dequantized inputs.

    Attributes:
        saturating: The kernels may add two 8-bit products in 16 bits (x86 without VNNI): weights that could overflow
            there are held as uint8, whose kernels are exact.
        portable: Standard operators only.
    """

    name: ClassVar[str] = "lower-products"
    keeps_float: ClassVar[bool] = False
    saturating: bool = True
    portable: bool = False

    def run(self, model: ir.Model) -> Outcome:
        lowering = Lowering(model)
        matched, skipped = [], []
        for node in list(model.graph):
            if node.op_type not in ("MatMul", "Gemm") or node.domain not in ("", "ai.onnx"):
                continue
            left, right = operand_of(node.inputs[0]), operand_of(node.inputs[1])
            if left is None or right is None:
                continue
            reason = _refusal(node, left, right)
            if not reason and self.saturating and _may_saturate(node, left, right):
                reason = "signed codes of an activation, for which x86 has no exact kernel"
            if reason:
                skipped.append(Skip(str(node.name), reason))
                continue
            self._lower(lowering, node, left, right)
            matched.append(str(node.name))
        if matched and not self.portable:
            model.opset_imports.setdefault(MICROSOFT, 1)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def _lower(self, lowering: Lowering, node: ir.Node, left: Operand, right: Operand) -> None:
        tail, bias = _bias(node, right)
        if node.op_type == "Gemm" and node.attributes.get_int("transB"):
            right = lowering.transposed(right)
        if self.saturating:
            if left.constant is not None:
                left = lowering.unsigned(left)
            if right.constant is not None and not (right.constant.ndim == 2 and pairs_fit(right.constant, 0)):
                right = lowering.unsigned(right)
        if self.portable or left.scale.size > 1 or (bias is not None and not _is_row(bias, right)):
            inputs = [left.codes, right.codes, lowering.zero_point(left), lowering.zero_point(right)]
            product = lowering.node("MatMulInteger", inputs, "int32", node, dtype=ir.DataType.INT32)
            scale = left.scale.reshape(-1, 1) if left.scale.size > 1 else left.scale
            made = lowering.rescaled(product, np.asarray(scale * right.scale), node)
            if bias is not None:
                made.append(lowering.node("Add", [made[-1].outputs[0], bias], "sum", node))
        else:
            zeros = [lowering.zero_point(left), lowering.zero_point(right, like_scale=True)]
            operands = [left.codes, right.codes, left.scale_value, right.scale_value, *zeros]
            inputs_and_bias = [*operands, *([] if bias is None else [bias])]
            made = [lowering.node("MatMulIntegerToFloat", inputs_and_bias, "product", node, domain=MICROSOFT)]
        lowering.put(made, tail)


def _refusal(node: ir.Node, left: Operand, right: Operand) -> str:
    """Why no integer product takes these operands; empty where one does."""
    if node.op_type == "Gemm":
        if node.attributes.get_float("alpha", 1.0) != 1 or node.attributes.get_int("transA"):
            return "Gemm with alpha or a transposed activation"
        if len(node.inputs) > 2 and node.attributes.get_float("beta", 1.0) != 1:
            return "Gemm with beta"
        if right.constant is None:
            return "Gemm with a weight computed at run time"
    rows = len(left.codes.shape) if left.codes.shape is not None else 0
    if left.scale.size > 1 and (rows != 2 or left.axis != 0):
        return "the scale of the first operand is not per row"
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB")
    dims = len(right.codes.shape) if right.codes.shape is not None else 0
    if right.scale.size > 1 and (dims != 2 or right.axis != (0 if transposed else 1)):
        return "the scale of the second operand is not per column"
    return ""


def _may_saturate(node: ir.Node, left: Operand, right: Operand) -> bool:
    """Whether a signed activation meets codes that could overflow: kernels flip its sign bit and add in 16 bits."""
    if left.constant is None and left.signed:
        axis = 1 if node.op_type == "Gemm" and node.attributes.get_int("transB") else 0
        weight = right.constant
        return weight is None or not right.signed or weight.ndim != 2 or not pairs_fit(weight, axis)
    return right.constant is None and right.signed


def _is_row(bias: ir.Value, right: Operand) -> bool:
    """Whether the bias has one number for each column, as the fused product wants it."""
    if bias.shape is None or right.codes.shape is None:
        return False
    return len(bias.shape) == 1 and bias.shape[0] == right.codes.shape[-1]


def _bias(node: ir.Node, right: Operand) -> tuple[ir.Node, ir.Value | None]:
    """The node whose output the product takes over, and the bias it absorbs: Gemm's own, or a constant row's Add."""
    if node.op_type == "Gemm":
        return node, node.inputs[2] if len(node.inputs) > 2 else None
    add = sole_consumer(node.outputs[0])
    if add is None or add.op_type != "Add" or add.graph is not node.graph or right.constant is None:
        return node, None
    other = next((value for value in add.inputs if value is not node.outputs[0]), None)
    array = constant_array(other) if other is not None and other.producer() is None else None
    if array is None or array.ndim != 1 or array.size != right.constant.shape[-1]:
        return node, None
    return add, other
