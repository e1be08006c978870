"""A norm out of primitive operators: what it reads and gives, its nodes, and its gain and bias."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.graph import constant_array, sole_consumer
from qcompiler.passes.canonical.matching import behind_casts, next_through_casts, other_operand


@dataclass
class Norm:
    """One match: y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * gain + bias, mean absent in RMSNorm."""

    data: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    centered: bool
    result: ir.Value
    inner: list[ir.Node] = field(default_factory=list)
    gain: ir.Value | None = None
    bias: ir.Value | None = None
    gain_node: ir.Node | None = None
    bias_node: ir.Node | None = None

    @property
    def channels(self) -> int | None:
        """Size of the axis, where it is one of a known size."""
        shape = self.data.shape
        if shape is None or len(self.axes) != 1 or len(shape) < -self.axes[0]:
            return None
        size = shape[self.axes[0]]
        return size if isinstance(size, int) else None


def absorb_affine(found: Norm) -> None:
    """Take in gain and bias where they are constants along the axis: the last one, or the one of channels that places
    follow."""
    if found.bias is not None or found.gain is not None or not _is_one_axis(found):
        return
    casts: list[ir.Node] = []
    node = next_through_casts(found.result, casts)
    narrow = _narrow(found, casts)
    if node is None or node.op_type != "Mul" or (casts and not narrow):
        return
    source = found.result if not casts else casts[-1].outputs[0]
    gain = other_operand(node, source)
    if not per_channel(gain, found.data, found.axes[0]):
        return
    if narrow:
        found.data = behind_casts(found.data) or found.data
    found.inner += [*casts, node]
    found.gain, found.gain_node, found.result = gain, node, node.outputs[0]
    follower = sole_consumer(found.result)
    if follower is not None and follower.op_type == "Add" and found.centered:
        bias = other_operand(follower, found.result)
        if per_channel(bias, found.data, found.axes[0]):
            found.inner.append(follower)
            found.bias, found.bias_node, found.result = bias, follower, follower.outputs[0]


def _narrow(found: Norm, casts: list[ir.Node]) -> bool:
    """float16 -> Cast -> statistics in float32 -> Cast -> float16: the operator does that by itself."""
    source = behind_casts(found.data)
    return bool(casts) and source is not None and source.dtype == casts[-1].outputs[0].dtype


def _is_one_axis(found: Norm) -> bool:
    dims = len(found.data.shape) if found.data.shape is not None else 0
    return found.axes == (-1,) or (len(found.axes) == 1 and found.channels is not None and found.axes[0] != -dims)


def per_channel(value: ir.Value | None, data: ir.Value, axis: int = -1) -> bool:
    """Whether the value is a constant with an element per channel of `data`; along the last axis a single one will do.

    Args:
        axis: Of the channels, counted from the end.
    """
    array = constant_array(value)
    if array is None or (axis != -1 and array.ndim < -axis):
        return False
    sizes = [size for place, size in enumerate(array.shape) if place != array.ndim + axis]
    channels = data.shape[axis] if data.shape is not None and len(data.shape) >= -axis else None
    if any(size != 1 for size in sizes):
        return False
    return (axis == -1 and (array.size == 1 or not isinstance(channels, int))) or array.size == channels
