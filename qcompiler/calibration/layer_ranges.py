"""Ranges by channel of what layers read, on a few samples; and how rewrites of the float model changed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.observers import ChannelRanges
from qcompiler.calibration.runner import calibrate
from qcompiler.graph import is_constant
from qcompiler.session import Feeds

SAMPLES = 4
_SAME = 1e-3
"""Ranges that differ by less than this share of the largest are those of the same channels, rounded otherwise."""


@dataclass(frozen=True, slots=True)
class LayerInput:
    """What a layer reads, by channel."""

    tensor: str
    ranges: ChannelRanges


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """A tensor before and after the rewrites; `readers` are the layers that read it."""

    readers: tuple[str, ...]
    before: LayerInput
    after: LayerInput


def layer_ranges(model: ir.Model, feeds: Sequence[Feeds], *, threads: int = 0) -> dict[str, LayerInput]:
    """Layer name (Conv, ConvTranspose, Gemm, MatMul with a constant weight) to what it reads.

    Raises:
        CalibrationError: An activation that is NaN or infinite, a sample that the model cannot run.
    """
    layers = {
        str(node.name): (str(node.inputs[0].name), axis)
        for node in model.graph
        if (axis := _channel_axis(node)) is not None and node.inputs[0] is not None and node.inputs[0].name
    }
    if not layers or not feeds:
        return {}
    found = calibrate(model, (), feeds, channel_axes=dict(layers.values()), mask_input=None, threads=threads).channels
    return {
        name: LayerInput(tensor, found[tensor])
        for name, (tensor, axis) in layers.items()
        if tensor in found and found[tensor].axis == axis
    }


def channel_changes(before: Mapping[str, LayerInput], after: Mapping[str, LayerInput]) -> tuple[ChannelChange, ...]:
    """Each tensor whose ranges changed, once, in the order of the layers that read it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, new in after.items():
        old = before.get(name)
        if old is not None and old.ranges.high.shape == new.ranges.high.shape and _differ(old.ranges, new.ranges):
            groups.setdefault((old.tensor, new.tensor), []).append(name)
    return tuple(ChannelChange(tuple(names), before[names[0]], after[names[0]]) for names in groups.values())


def _channel_axis(node: ir.Node) -> int | None:
    """Where the channels of the first input lie; None where the node is no layer."""
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or not is_constant(node.inputs[1]):
        return None
    if node.op_type == "MatMul":
        return -1
    transposed = node.attributes.get("transA")
    return 0 if transposed is not None and transposed.as_int() else 1


def _differ(old: ChannelRanges, new: ChannelRanges) -> bool:
    bound = _SAME * max(float(old.peaks.max(initial=0)), 1e-30)
    return bool(np.any(np.abs(old.low - new.low) > bound) or np.any(np.abs(old.high - new.high) > bound))
