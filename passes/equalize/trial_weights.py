"""Weights as they are after shifts and scales and rounding, on the scale that they have without."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from qcompiler.graph import constant_array
from qcompiler.numerics import dequantize, quantize
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.sites.records import Reader, Reals
from qcompiler.precision import ALL_8_BITS, Precisions
from qcompiler.session import Arrays
from qcompiler.target import Target


def rounded_weights(
    model: ir.Model,
    target: Target,
    layers: Collection[str],
    parameters: Mapping[str, ShiftScale],
    float_nodes: Collection[str] = (),
    precisions: Precisions = ALL_8_BITS,
) -> Arrays:
    """Layer to Q(diag(s) W) / s, with the scales that the target's plan gives: float32, in the shape of the weight.

    Args:
        model: Left as it is.
        layers: Names of quantized MatMul and Gemm nodes.
    """
    copy = model.clone()
    FoldShiftScale(parameters).run(copy)
    chosen = select_sites(copy, target.placement, float_nodes, precisions)
    before = {str(node.name): node.inputs[1] for node in model.graph if node.name in layers}
    after = {str(node.name): node.inputs[1] for node in copy.graph if node.name in layers}
    chosen.activations = {name: chosen.activations[name] for name in before}
    plan = make_plan(copy, target, chosen, dict.fromkeys(chosen.sources.values(), 1.0))
    found: Arrays = {}
    for name in before:
        old, new = constant_array(before[name]), constant_array(after[name])
        assert old is not None and new is not None
        quant = plan.weights[name][1]
        found[name] = dequantize(quantize(new, quant), quant)
        if parameters:
            found[name] *= np.divide(old, new, out=np.zeros_like(found[name]), where=new != 0)
    return found


def moved_by(reader: Reader, shift: Reals) -> Reals:
    """What a shift of its input takes from the layer's output, by output channel."""
    weight = constant_array(reader.weight.value)
    assert weight is not None
    if not np.any(shift):  # a Conv with padding or several places takes no other
        return np.zeros(weight.shape[reader.outputs], np.float32)
    matrix = weight.reshape(weight.shape[:2])
    return np.asarray(shift @ (matrix if reader.weight.axis == 0 else matrix.T), np.float32)
