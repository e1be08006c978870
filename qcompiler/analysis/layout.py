"""Which axis of an activation holds its channels, and which its tokens."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.calibration.masks import symbolic_shape
from qcompiler.graph import is_constant
from qcompiler.passes.quant.select_sites import source_of

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(frozen=True, slots=True)
class Layout:
    """Axes of one activation.

    Attributes:
        channel: Axis of the channels, which a weight could be scaled along; None where there is none (probabilities).
        token: Axis of the positions of a sequence; None for images and for tensors without a sequence.
    """

    channel: int | None
    token: int | None


def layout_of(value: ir.Value, dims: int, batch_names: Collection[str]) -> Layout:
    """The axes as the readers of `value` use them.

    MatMul and Gemm sum over channels, Conv has them on axis 1. Of the second operand of a product, the axis that the
    product sums over, unless the first operand is a probability: that sum runs over tokens, and channels come last.

    Args:
        dims: Number of dimensions of the array.
        batch_names: Symbols of the batch: an axis 0 of that size holds samples and no tokens.
    """
    if dims < 2 or _is_probability(value):
        return Layout(None, None)
    uses = sorted(value.uses(), key=lambda use: not any(map(is_constant, use.node.inputs)))  # weights know best
    found = (_channel_axis(use.node, use.idx, dims) for use in uses)
    channel = next((axis for axis in found if axis is not None), _by_rank(value, dims))
    convolved = dims > 3 and channel == 1
    return Layout(channel, None if convolved else _token_axis(value, dims, channel, batch_names))


def _channel_axis(node: ir.Node, index: int, dims: int) -> int | None:
    if node.op_type in _CONVOLUTIONS:
        return 1 if index == 0 else None
    if node.op_type == "Gemm":
        return 1 if index == 0 else None
    if node.op_type == "MatMul":
        return dims - 1 if index == 0 or _is_probability(node.inputs[0]) else dims - 2
    return None


def _by_rank(value: ir.Value, dims: int) -> int:
    """Where no reader tells: axis 1 of what convolutions made, else the last."""
    producer = value.producer()
    return 1 if dims > 2 and producer is not None and producer.op_type in _CONVOLUTIONS else dims - 1


def _token_axis(value: ir.Value, dims: int, channel: int, batch_names: Collection[str]) -> int | None:
    sizes = symbolic_shape(value)
    leading = sizes[0] if sizes else None
    lone = dims == 2 and isinstance(leading, str) and leading not in batch_names  # [tokens, channels]
    candidates = [axis for axis in range(dims) if axis != channel and (axis or lone)]
    return candidates[-1] if candidates else None


def _is_probability(value: ir.Value | None) -> bool:
    producer = source_of(value).producer() if value is not None else None
    return producer is not None and producer.op_type == "Softmax"
