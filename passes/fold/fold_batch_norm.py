"""BatchNormalization goes into the layer before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import all_nodes, constant_array
from qcompiler.passes.fold.output_channels import LAYERS, Array, OutputChannels, channels_of, drop_follower
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """BatchNormalization(layer(x)) becomes layer(x), for Conv, ConvTranspose, Gemm and MatMul (which becomes a Gemm).

    In inference the norm is y * s + (bias - mean * s) per channel, s = scale / sqrt(var + epsilon): exact up to one
    rounding of the weights. It stays where its statistics or the weight are computed, in training mode, behind
    anything else (a Concat, an Add), and where the result would not be finite.
    """

    name: ClassVar[str] = "fold-batch-norm"

    def run(self, model: ir.Model) -> Outcome:
        channels = OutputChannels(model)
        matched: list[str] = []
        skipped: list[Skip] = []
        for norm in list(all_nodes(model)):
            if norm.op_type != "BatchNormalization" or norm.domain not in ("", "ai.onnx"):
                continue
            reason = _fold(norm, channels)
            if reason:
                skipped.append(Skip(norm.name or "", reason))
            else:
                matched.append(norm.name or "")
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _fold(norm: ir.Node, channels: OutputChannels) -> str:
    affine = _affine(norm)
    if isinstance(affine, str):
        return affine
    scale, shift = affine
    data = norm.inputs[0]
    layer = data.producer() if data is not None else None
    if layer is None or layer.op_type not in LAYERS:
        return f"follows {'an input' if layer is None else layer.op_type}"
    reason = channels.refusal(layer, norm)
    if reason:
        return reason
    if channels_of(layer) != scale.size:
        return f"{scale.size} statistics for {channels_of(layer)} channels"
    reason = channels.absorb(layer, scale, shift)
    if not reason:
        drop_follower(layer, norm)
    return reason


def _affine(norm: ir.Node) -> tuple[Array, Array] | str:
    """Scale and shift per channel in float64, or why there are none."""
    if norm.attributes.get_int("training_mode", 0) or any(
        value.uses() or value.is_graph_output() for value in norm.outputs[1:]
    ):
        return "in training mode"
    arrays = [constant_array(value) for value in norm.inputs[1:5]]
    if any(array is None for array in arrays):
        return "its statistics are computed at run time"
    gain, bias, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    with np.errstate(all="ignore"):
        scale = gain / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
        shift = bias - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return "its statistics give numbers that are not finite"
    return scale, shift
