"""Zero points for tensors that are one-sided: what ReLU, GELU, SiLU and Softmax give wastes half of a symmetric grid.

q = round(x / s) + z with z near -128 has up to 255 steps for x >= 0 in place of 127: half the step, 6 dB less noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor

import onnx_ir as ir

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.thresholds import least_error_threshold
from qcompiler.passes.quant.bias_places import bias_places
from qcompiler.passes.quant.select_sites import Sites, source_of
from qcompiler.target import Placement, Target

STEPS = 255
LOWEST = -128
FEWEST_POSITIVE = 160
"""Steps left for x > 0; with fewer a zero point gains less than 2 dB over the 127 of a symmetric grid."""
FEWEST_SEEN = 64
"""Elements that tell a one-sided tensor from one whose other side has not come yet."""
RULE = 1.75
"""Clips harder than most rules (`choose_ranges`): steps for x < 0 that suffice for its range suffice for theirs."""
_FUSED_INTO_CONV = frozenset({"Relu", "Clip", "LeakyRelu"})


def choose_zero_points(
    model: ir.Model, target: Target, sites: Sites, tensors: Mapping[str, Histogram]
) -> dict[str, int]:
    """Source tensor to zero point, for those that are one-sided and whose readers all take one.

    Tensors that share a scale share the zero point, or have none.

    Args:
        tensors: Histograms by source.
    """
    if target.activation.bits != 8:
        return {}
    symmetric = symmetric_tensors(model, target.placement, sites.activations)
    refused = {sites.sources[tensor] for tensor in symmetric}
    refused |= {name for name, bits in sites.bits.items() if bits != 8}
    found = {
        name: zero
        for name, histogram in tensors.items()
        if name not in refused and histogram.count >= FEWEST_SEEN and (zero := zero_point_of(histogram)) is not None
    }
    for group in sites.groups:
        members = {sites.sources[member] for member in group if member in sites.sources}
        zeros = [found[member] for member in members if member in found]
        for member in members:
            if len(zeros) == len(members):
                found[member] = max(zeros)
            else:
                found.pop(member, None)
    return found


def may_be_one_sided(model: ir.Model, target: Target, sites: Sites) -> frozenset[str]:
    """Source tensors that get a zero point where a rewrite leaves them one-sided; what shares a scale is left out."""
    if target.activation.bits != 8:
        return frozenset()
    refused = {sites.sources[tensor] for tensor in symmetric_tensors(model, target.placement, sites.activations)}
    refused |= {sites.sources[tensor] for group in sites.groups for tensor in group if tensor in sites.sources}
    return frozenset(name for name in sites.sources.values() if sites.bits.get(name, 8) == 8) - refused


def zero_point_of(histogram: Histogram) -> int | None:
    """-128 and the steps that the smallest value needs; None where x < 0 matters as much."""
    low, high = histogram.range()
    if high <= 0 or -low >= high:
        return None
    top = least_error_threshold(histogram, RULE, max(1, floor(STEPS * high / (high + max(0.0, -low)))))
    positive = steps_above(low, top)
    return None if positive is None else LOWEST + STEPS - positive


def steps_above(low: float, top: float) -> int | None:
    """Steps between zero and `top` on a grid that reaches down to `low`; None where too few for a zero point to pay."""
    below = max(0.0, -low)
    if top <= 0:
        return None
    positive = floor(STEPS * top / (top + below))
    return positive if positive >= FEWEST_POSITIVE else None


def symmetric_tensors(
    model: ir.Model, placement: Placement, activations: Mapping[str, tuple[int, ...]], *, fused: bool = True
) -> dict[str, str]:
    """Tensors that can't have a zero point, with the node that reads them and takes none.

    Args:
        activations: Node name to the inputs that read quantized values.
        fused: Also those that a kernel makes together with their activation function, which an Add would take apart.
    """
    if placement.zero_points == "free":
        return {}
    places = {place.layer for place in bias_places(model, activations)[0]}
    found = {}
    for node in model.graph:
        for index in activations.get(str(node.name), ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is None or value.name is None:
                continue
            maker = source_of(value).producer()
            apart = fused and (maker is None or maker.op_type in _FUSED_INTO_CONV)
            if placement.zero_points == "none" or apart or node.name not in places or not reads_every_place(node):
                found[value.name] = str(node.name)
    return found


def reads_every_place(node: ir.Node) -> bool:
    """Whether a constant added to the layer's input adds one number per channel to its output: no padding comes in."""
    if node.op_type == "ConvTranspose":
        return False
    if node.op_type != "Conv":
        return True
    pads = node.attributes.get("pads")
    weight = node.inputs[1]
    sizes = list(weight.shape)[2:] if weight is not None and weight.shape is not None else [0]
    same = node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME") and any(size != 1 for size in sizes)
    return not same and (pads is None or not any(pads.value))
