"""Sites and ranges to a plan: scales of activations from thresholds, scales of weights from their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qcompiler.numerics import SMALLEST_SCALE, conv_weight_scale, weight_scale
from qcompiler.passes.quant.clip_weights import least_squares_scale
from qcompiler.passes.quant.select_sites import Sites
from qcompiler.plan import QuantPlan
from qcompiler.scheme import FloatArray, PerAxis, PerBlock, PerTensor, QuantScheme, TensorQuant
from qcompiler.target import Target
from qcompiler.weight_file import forget_pages

CHANNEL_AXIS = 1
"""Of what a Conv gives: [batch, channels, ...]."""


def make_plan(
    model: ir.Model,
    target: Target,
    sites: Sites,
    thresholds: Mapping[str, float],
    weights: Mapping[str, dict[int, TensorQuant]] | None = None,
    channel_peaks: Mapping[str, FloatArray] | None = None,
) -> QuantPlan:
    """Fill in the numbers.

    Args:
        thresholds: Source tensor to the magnitude that maps to qmax; nodes with an input that has none stay float.
        weights: Quantization of weights by node, where an earlier plan for the same sites has it.
        channel_peaks: Output tensor to the largest magnitude of each channel; outputs without stay float.
    """
    plan = QuantPlan(floats=dict(sites.floats))
    nodes = {node.name: node for node in model.graph}
    shared = _shared_thresholds(sites, thresholds)
    for name, indices in sites.activations.items():
        node = nodes[name]
        tensors = [str(node.inputs[index].name) for index in indices]  # type: ignore[union-attr]
        missing = [tensor for tensor in tensors if tensor not in shared]
        if missing:
            plan.floats[name] = f"calibration saw no values of {missing[0]}"
            continue
        plan.nodes[name] = indices
        for tensor in tensors:
            plan.tensors[tensor] = _activation_quant(shared[tensor], sites, sites.sources[tensor], target)
        if name in sites.weights:
            known = None if weights is None else weights.get(name)
            plan.weights[name] = known or {
                index: _block_quant(node, index, axis, sites.blocks[name])
                if name in sites.blocks and axis is not None
                else _weight_quant(node, index, axis, sites.weight_bits.get(name, 8), target)
                for index, axis in sites.weights[name].items()
            }
    for name, tensor in sites.outputs.items():
        peaks = (channel_peaks or {}).get(tensor)
        if name in plan.nodes and peaks is not None:
            plan.outputs[name] = _output_quant(peaks, target)
    plan.groups = [group for group in sites.groups if all(member in plan.tensors for member in group)]
    return plan


def _activation_quant(threshold: float, sites: Sites, source: str, target: Target) -> TensorQuant:
    scale = np.asarray(np.maximum(np.float32(threshold / sites.steps(source)), SMALLEST_SCALE))
    scheme, zero = replace(target.activation, bits=sites.bits.get(source, 8)), sites.zero_points.get(source)
    if zero is None:
        return TensorQuant(scheme, scale)
    return TensorQuant(replace(scheme, symmetric=False), scale, np.asarray(zero, scheme.dtype.numpy()))


def _output_quant(peaks: FloatArray, target: Target) -> TensorQuant:
    """One scale per channel: a kernel that rescales its sums by channel writes such codes at no cost."""
    scheme = replace(target.activation, granularity=PerAxis(CHANNEL_AXIS))
    scale = np.maximum(peaks / np.float32(target.activation.qmax), SMALLEST_SCALE)
    return TensorQuant(scheme, scale.astype(np.float32))


def _shared_thresholds(sites: Sites, thresholds: Mapping[str, float]) -> dict[str, float]:
    result = {tensor: thresholds[source] for tensor, source in sites.sources.items() if source in thresholds}
    for group in sites.groups:
        known = [result[member] for member in group if member in result]
        result.update({member: max(known) for member in group if member in result})
    return result


def _block_quant(node: ir.Node, index: int, axis: int, size: int) -> TensorQuant:
    value = node.inputs[index]
    assert value is not None and value.const_value is not None
    scheme = QuantScheme(ir.DataType.INT4, PerBlock(axis, size), bits=4)
    scale = least_squares_scale(value.const_value.numpy(), scheme)
    forget_pages(value.const_value)
    return TensorQuant(scheme, scale)


def _weight_quant(node: ir.Node, index: int, axis: int | None, bits: int, target: Target) -> TensorQuant:
    value = node.inputs[index]
    assert value is not None and value.const_value is not None
    scheme = QuantScheme(granularity=PerTensor() if axis is None else PerAxis(axis), bits=bits)
    weight = value.const_value.numpy()
    if bits < 8:  # neighbours stay far below what 16-bit sums hold
        scale = least_squares_scale(weight, scheme)
    elif not target.placement.weights_pair_safe or node.op_type == "ConvTranspose":
        scale = weight_scale(weight, scheme)
    elif node.op_type == "Conv":
        scale = conv_weight_scale(weight, scheme)
    else:
        scale = weight_scale(weight, scheme, pair_axis=sum_axis(node, index, weight.ndim))
    forget_pages(value.const_value)
    return TensorQuant(scheme, scale)


def sum_axis(node: ir.Node, index: int, dims: int) -> int | None:
    """The axis of a MatMul or Gemm weight that the kernel sums along; None for convolutions, which unfold first."""
    if node.op_type == "MatMul":
        return dims - 2 if index == 1 else dims - 1
    if node.op_type == "Gemm":
        return 1 if node.attributes.get_int("transB") else 0
    return None
