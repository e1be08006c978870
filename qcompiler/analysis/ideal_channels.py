"""What outlier channels cost: the same model with every channel of the worst activations brought to one range.

x @ W   becomes   (x / c) @ (c W),   c = min(absmax of the channel, t) / t,   t the tensor's clipping threshold

which is the same float function. What was clipped still is; all else is rounded as finely as its channel allows. (With
the channel's maximum in place of t, channels of rare spikes would lose more than all others win.) Moving ranges into
weights has then nothing left to win on the activation side, so the SQNR gained is the most that such a rewrite can give
back. Weights stay float here: what c W costs in int8 is the rewrite's own affair.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node

FLOOR = 1e-3
"""Least c: a dead channel divided by nothing would only amplify noise."""


def with_ideal_channels(
    model: ir.Model, peaks: Mapping[str, npt.NDArray[np.float64]], thresholds: Mapping[str, float]
) -> tuple[ir.Model, dict[str, str]]:
    """A clone with these activations divided by channel, and the new tensor's name for each that could be.

    Taken are tensors that only MatMul, Gemm and ungrouped Conv with constant weights read among the planned readers;
    other readers keep the undivided tensor.

    Args:
        peaks: Tensor to the absmax of each channel.
        thresholds: Tensor to t, its own and the divided one's.
    """
    copy = model.clone()
    names = FreshNames(copy)
    values = {value.name: value for value in copy.graph.inputs}
    values |= {value.name: value for node in copy.graph for value in node.outputs}
    made: dict[str, str] = {}
    for name, peak in peaks.items():
        value = values.get(name)
        uses = [] if value is None else [use for use in value.uses() if _scalable(use.node, use.idx, len(peak))]
        if value is None or not uses:
            continue
        ratio = np.clip(peak / thresholds[name], FLOOR, 1.0).astype(np.float32)
        shape = (1, -1, *(1,) * (_dims(value) - 2)) if uses[0].node.op_type == "Conv" else (-1,)
        divisor = add_initializer(copy.graph, ratio.reshape(shape), names(f"{name}/channels"))
        node = make_node("Div", [value, divisor], output=names(f"{name}/even"), dtype=value.dtype, shape=value.shape)
        producer = value.producer()
        if producer is None:
            copy.graph.insert_before(copy.graph[0], node)
        else:
            copy.graph.insert_after(producer, node)
        for use in uses:
            weight, old = _scaled_weight(use.node, ratio), use.node.inputs[1]
            use.node.replace_input_with(0, node.outputs[0])
            use.node.replace_input_with(1, add_initializer(copy.graph, weight, names(f"{use.node.name}/scaled")))
            if old is not None and not old.uses() and not old.is_graph_output():
                copy.graph.initializers.pop(str(old.name), None)  # onnxruntime refuses content for what nobody reads
        made[name] = str(node.outputs[0].name)
    return copy, made


def _dims(value: ir.Value) -> int:
    return len(value.shape) if value.shape is not None else 4


def _scalable(node: ir.Node, index: int, channels: int) -> bool:
    """Whether a factor by channel of input 0 goes into the constant input 1."""
    weight = constant_array(node.inputs[1]) if index == 0 and len(node.inputs) > 1 else None
    if weight is None or weight.dtype != np.float32:
        return False
    if node.op_type == "MatMul":
        return weight.ndim >= 2 and weight.shape[-2] == channels
    if node.op_type == "Gemm":
        axis = 1 if node.attributes.get_int("transB") else 0
        return not node.attributes.get_int("transA") and weight.shape[axis] == channels
    return node.op_type == "Conv" and node.attributes.get_int("group", 1) == 1 and weight.shape[1] == channels


def _scaled_weight(node: ir.Node, ratio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    weight = constant_array(node.inputs[1])
    assert weight is not None  # _scalable has seen it
    if node.op_type == "Conv":
        return np.asarray(weight * ratio.reshape(1, -1, *(1,) * (weight.ndim - 2)), np.float32)
    along_rows = node.op_type == "MatMul" or not node.attributes.get_int("transB")
    return np.asarray(weight * (ratio[:, None] if along_rows else ratio), np.float32)
