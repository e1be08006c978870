"""Add and Mul by constants go into the layer before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import all_nodes, constant_array
from qcompiler.passes.fold.output_channels import (
    Array,
    OutputChannels,
    channels_of,
    drop_follower,
    per_channel,
    spatial_axes,
)
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class FoldAffine(Pass):
    """layer(x) + c, layer(x) - c, c - layer(x), layer(x) * c, layer(x) / c become layer(x).

    For Conv, ConvTranspose and Gemm, c a constant scalar or one number for each output channel. It stays where c
    differs along another axis, where the layer's output is read elsewhere too, and inside recognised forms.
    """

    name: ClassVar[str] = "fold-affine"

    def run(self, model: ir.Model) -> Outcome:
        channels = OutputChannels(model)
        matched: list[str] = []
        skipped: list[Skip] = []
        for node in list(all_nodes(model)):
            found = _operands(node)
            if found is None:
                continue
            layer, constant, first = found
            reason = _fold(node, layer, constant, first, channels)
            if reason:
                skipped.append(Skip(node.name or "", reason))
            else:
                matched.append(node.name or "")
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _operands(node: ir.Node) -> tuple[ir.Node, Array, bool] | None:
    """The layer, the constant, and whether the constant is the first operand; None where the node is another thing."""
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or node.domain not in ("", "ai.onnx"):
        return None
    for index in (0, 1):
        data, other = node.inputs[index], node.inputs[1 - index]
        layer = data.producer() if data is not None else None
        if layer is None or layer.op_type == "MatMul" or channels_of(layer) is None:
            continue  # MatMul and Add are one layer to the planner as they are
        constant = constant_array(other)
        if constant is not None and not (node.op_type == "Div" and index == 1):
            return layer, constant, index == 1
    return None


def _fold(node: ir.Node, layer: ir.Node, constant: Array, first: bool, channels: OutputChannels) -> str:
    reason = channels.refusal(layer, node)
    count = channels_of(layer)
    if reason or count is None:
        return reason
    spatial = spatial_axes(layer)
    numbers = per_channel(constant, count, spatial, spatial + 2)
    if numbers is None:
        return "the constant is not one number for each output channel"
    scale: Array | None = None
    shift: Array | None = None
    if node.op_type == "Add":
        shift = numbers
    elif node.op_type == "Sub":
        scale, shift = (np.full(count, -1.0), numbers) if first else (None, -numbers)
    else:
        with np.errstate(divide="ignore"):
            scale = numbers if node.op_type == "Mul" else 1.0 / numbers
        if not np.isfinite(scale).all():
            return "a division by zero"
    reason = channels.absorb(layer, scale, shift)
    if not reason:
        drop_follower(layer, node)
    return reason
