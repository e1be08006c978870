"""Constants of a float32 graph that mean something else than their value, brought into float16's range beforehand.

- "Minus infinity" of a mask (-3.4e38, -1e9): becomes -8192. It still drowns every score, two masks add up without
  overflow, and 0 * mask stays 0. Cast naively it becomes -inf, and 0 * -inf is NaN.
- Bounds of Clip, Min, Max and comparisons that mean "none": become float16's largest number.
- Scales of activation pairs: rounded to float16, so that both halves of a pair agree whatever type each has.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer
from qcompiler.passes.precision.limits import HALF_MAX, HALF_MIN_NORMAL

SENTINEL: Final = 1e8
MASK: Final = 8192.0
_BOUNDED: Final = frozenset({"Clip", "Min", "Max", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"})


def clamp_sentinels(model: ir.Model) -> None:
    """Replace such constants by new ones; others are not touched, and no array is written into."""
    fresh = FreshNames(model)
    for graph in model.graphs():
        for value in list(graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or tensor.dtype != ir.DataType.FLOAT or value.is_graph_input() or not tensor.size:
                continue
            array = tensor.numpy()
            if float(array.max()) >= SENTINEL or float(array.min()) <= -SENTINEL:
                _replace(graph, value, array, fresh)
    _round_scales(model, fresh)


def _replace(graph: ir.Graph, value: ir.Value, array: np.ndarray[Any, Any], fresh: FreshNames) -> None:
    big = np.isfinite(array) & (np.abs(array) >= SENTINEL)
    if not big.any():
        return
    for limit, wanted in ((HALF_MAX, True), (MASK, False)):
        uses = [use for use in value.uses() if (use.node.op_type in _BOUNDED) == wanted]
        if not uses:
            continue
        clamped = np.where(big, np.sign(array) * np.float32(limit), array).astype(np.float32)
        bounded = add_initializer(graph, clamped, fresh(f"{value.name}_bounded"))
        for use in uses:
            use.node.replace_input_with(use.idx, bounded)


def _round_scales(model: ir.Model, fresh: FreshNames) -> None:
    rounded: dict[ir.Value, ir.Value] = {}
    for node in model.graph.all_nodes():
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = node.inputs[1]
        is_pair = node.op_type == "QuantizeLinear" or _is_quantized(node.inputs[0])
        if scale is None or not is_pair or scale.const_value is None or scale.dtype != ir.DataType.FLOAT:
            continue
        if scale not in rounded:
            array = scale.const_value.numpy()
            half = np.clip(array, HALF_MIN_NORMAL, HALF_MAX).astype(np.float16).astype(np.float32)
            near = np.where(np.abs(half - array) <= 2.0**-11 * array, half, array).astype(np.float32)
            if np.array_equal(near, array):
                rounded[scale] = scale
            else:
                assert scale.graph is not None
                rounded[scale] = add_initializer(scale.graph, near, fresh(f"{scale.name}_rounded"))
        node.replace_input_with(1, rounded[scale])


def _is_quantized(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "QuantizeLinear"
