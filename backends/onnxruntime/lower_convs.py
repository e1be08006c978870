"""Conv between dequantized inputs to integer convolutions.

Q(Conv(DQ(x), DQ(w)) + b)        ->  QLinearConv(x, w, scales, zero points, int32 bias)   where only that Q reads it
Q(Relu(Conv(DQ(x), DQ(w)) + b))  ->  Clip(QLinearConv(...), zero point)                   max(Q(y), zero) = Q(Relu(y))
                                     QLinearConv(...)                 where no code lies below the zero point
Q(..., s[C], axis 1)             ->  QLinearConv(x, w, ..., w scales / s)                 rescales by channel anyway
Conv(DQ(x), DQ(w)) + b           ->  Cast(ConvInteger(x, w, zero points)) * scale + b     elsewhere
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.operands import OFFSET, Array, Lowering, Operand, operand_of
from qcompiler.graph import add_initializer, constant_array, sole_consumer
from qcompiler.numerics import pairs_fit, unfolded
from qcompiler.pipeline import Outcome, Pass, Skip

_BIAS_LIMIT = 2**30
"""Largest int32 bias: as much room again is left for the products."""


@dataclass(frozen=True)
class LowerConvs(Pass):
    """Every Conv with a dequantized input and weight.

    Attributes:
        saturating: As in `LowerProducts`.
    """

    name: ClassVar[str] = "lower-convs"
    keeps_float: ClassVar[bool] = False
    saturating: bool = True

    def run(self, model: ir.Model) -> Outcome:
        lowering = Lowering(model)
        matched, skipped = [], []
        for node in list(model.graph):
            if node.op_type != "Conv" or node.domain not in ("", "ai.onnx"):
                continue
            x, w = operand_of(node.inputs[0]), operand_of(node.inputs[1])
            if x is None or w is None:
                continue
            bias_value = node.inputs[2] if len(node.inputs) > 2 else None
            bias = constant_array(bias_value)
            if w.constant is None or x.scale.size > 1 or (w.scale.size > 1 and w.axis != 0):
                skipped.append(Skip(str(node.name), "scales that no integer Conv takes"))
            elif bias_value is not None and bias is None:
                skipped.append(Skip(str(node.name), "a bias computed at run time"))
            elif self.saturating and x.signed and not _fits(w.constant):
                reason = "signed codes of an activation, for which x86 has no exact kernel"
                skipped.append(Skip(str(node.name), reason))
            else:
                self._lower(lowering, node, x, w, bias)
                matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def _lower(self, lowering: Lowering, node: ir.Node, x: Operand, w: Operand, bias: Array | None) -> None:
        attributes = dict(node.attributes)
        follower = sole_consumer(node.outputs[0])
        relu = follower if follower is not None and follower.op_type == "Relu" else None
        if relu is not None:
            follower = sole_consumer(relu.outputs[0])
        codes = None if bias is None else _bias_codes(bias, x, w)
        if (
            follower is not None
            and follower.graph is node.graph
            and _quantizes(follower, per_channel=relu is None)
            and follower.outputs[0].dtype == x.codes.dtype  # no kernel changes the container
            and (codes is None or np.abs(codes).max(initial=0) < _BIAS_LIMIT)  # a dead channel's scale is tiny
        ):
            if self.saturating and not _fits(w.constant):
                w = lowering.unsigned(w)
            made = [_qlinear_conv(lowering, node, follower, x, w, codes)]
            made[0].attributes.update(attributes)
            if relu is not None and not _at_lowest(follower.inputs[2]):
                bounds = [made[0].outputs[0], follower.inputs[2]]
                made.append(lowering.node("Clip", bounds, "relu", node, dtype=follower.outputs[0].dtype))
            lowering.put(made, follower)
            return
        if self.saturating and not x.signed:
            w = lowering.unsigned(w)  # ConvInteger has no fast kernel for signed weights
        inputs = [x.codes, w.codes, lowering.zero_point(x), lowering.zero_point(w)]
        conv = lowering.node("ConvInteger", inputs, "int32", node, dtype=ir.DataType.INT32)
        conv.attributes.update(attributes)
        assert w.constant is not None
        spatial = (1,) * (w.constant.ndim - 2)
        scale = np.asarray(x.scale * w.scale)
        made = lowering.rescaled(conv, scale.reshape(-1, *spatial) if scale.size > 1 else scale, node)
        if bias is not None:
            row = add_initializer(lowering.model.graph, bias.reshape(-1, *spatial), lowering.names(f"{node.name}/bias"))
            made.append(lowering.node("Add", [made[-1].outputs[0], row], "sum", node))
        lowering.put(made, node)


def _bias_codes(bias: Array, x: Operand, w: Operand) -> Array:
    """The bias in steps of the products, as whole float64 numbers."""
    return np.asarray(np.rint(bias / np.asarray(x.scale * w.scale, np.float64)))


def _qlinear_conv(
    lowering: Lowering, node: ir.Node, quantize: ir.Node, x: Operand, w: Operand, bias: Array | None
) -> ir.Node:
    out_scale = constant_array(quantize.inputs[1])
    w_scale, y_scale, y_zero = w.scale_value, quantize.inputs[1], quantize.inputs[2]
    if out_scale is not None and out_scale.size > 1:
        # sums * x scale * (w scale / out scale) / 1: the code of each channel on its own grid
        graph, unit = lowering.model.graph, np.asarray(1, np.float32)
        w_scale = add_initializer(graph, (w.scale / out_scale).astype(np.float32), lowering.names(f"{node.name}/scale"))
        y_scale = lowering.constant(("unit scale",), unit, "unit_scale")
        y_zero = lowering.zero_point(replace(x, zero=0 if x.signed else OFFSET))  # the activation's container, a scalar
    channels = w_scale.const_value.size if w_scale.const_value is not None else 1
    zeros = lowering.zero_point(w, like_scale=True) if channels == w.scale.size else lowering.zeros(w, channels)
    inputs: list[ir.Value | None] = [
        x.codes, x.scale_value, lowering.zero_point(x), w.codes, w_scale, zeros, y_scale, y_zero,
    ]  # fmt: skip
    if bias is not None:
        value = bias.astype(np.int32)
        inputs.append(add_initializer(lowering.model.graph, value, lowering.names(f"{node.name}/bias_int32")))
    return lowering.node("QLinearConv", inputs, "codes", node, dtype=quantize.outputs[0].dtype)


def _quantizes(node: ir.Node, *, per_channel: bool) -> bool:
    """Whether the node is a QuantizeLinear that QLinearConv can take in: per tensor, or by channel along axis 1."""
    if node.op_type != "QuantizeLinear" or len(node.inputs) < 3:
        return False
    scale = constant_array(node.inputs[1])
    if scale is None:
        return False
    return scale.size == 1 or (per_channel and node.attributes.get_int("axis", 1) == 1)


def _at_lowest(zero_point: ir.Value | None) -> bool:
    """Whether no code lies below the zero point: saturation is then the Relu."""
    zero = constant_array(zero_point)
    return zero is not None and bool(np.all(zero == np.iinfo(zero.dtype).min))


def _fits(codes: Array | None) -> bool:
    """Whether neighbours cannot saturate, whatever order the kernel unfolds the input in."""
    return codes is not None and all(pairs_fit(order, 1) for order in unfolded(codes))
