"""Zero points to 0, which is all that TensorRT takes: the offset goes into the float input and the readers' biases.

Q(x, s, z) -> DQ -> layer W, b     becomes     x + z s -> Q(s, 0) -> DQ -> layer W, b - z s sum(W)

The codes are the same. The Add stands behind an activation function, with which the builder fuses it; the sum is over
the rounded weights, so that the layer gives the same numbers up to float rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node
from qcompiler.passes.quant.bias_places import BiasPlace, add_to_bias, bias_places
from qcompiler.passes.quant.zero_points import reads_every_place
from qcompiler.pipeline import Outcome, Pass, Skip

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CenterZeroPoints(Pass):
    """Every int8 pair with one zero point other than 0 whose readers are layers with constant weights."""

    name: ClassVar[str] = "center-zero-points"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        names, matched, skipped = FreshNames(model), [], []
        pairs = [(node, zero) for node in model.graph if (zero := _zero_point(node))]
        if not pairs:
            return Outcome(False)
        places = {place.layer: place for place in bias_places(model, {str(node.name) for node in model.graph})[0]}
        for node, zero in pairs:
            reason = _center(model.graph, node, zero, places, names)
            if reason:
                skipped.append(Skip(str(node.name), reason))
            else:
                matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _zero_point(node: ir.Node) -> int:
    if node.op_type != "QuantizeLinear" or node.outputs[0].dtype != ir.DataType.INT8 or len(node.inputs) < 3:
        return 0
    zero, scale = constant_array(node.inputs[2]), constant_array(node.inputs[1])
    return int(zero.reshape(-1)[0]) if zero is not None and scale is not None and scale.size == zero.size == 1 else 0


def _center(graph: ir.Graph, node: ir.Node, zero: int, places: dict[str, BiasPlace], names: FreshNames) -> str:
    """Change one pair; a refusal or ""."""
    backs = [use.node for use in node.outputs[0].uses()]
    uses = [use for back in backs for use in back.outputs[0].uses()]
    if any(back.op_type != "DequantizeLinear" or back.outputs[0].is_graph_output() for back in backs):
        return "its codes reach other operators than DequantizeLinear"
    sums: list[tuple[BiasPlace, Array]] = []
    for use in uses:
        place, total = places.get(str(use.node.name)), _summed(use.node)
        if place is None or total is None or use.idx != 0 or not reads_every_place(use.node):
            return f"{use.node.name} takes no offset"
        sums.append((place, total))
    value, scale = node.inputs[0], constant_array(node.inputs[1])
    assert value is not None and scale is not None
    offset = np.float32(zero * np.float64(scale.reshape(-1)[0]))
    constant = add_initializer(graph, np.asarray(offset, scale.dtype), names(f"{value.name}_offset"))
    add = make_node("Add", [value, constant], output=names(f"{value.name}_centered"), dtype=value.dtype,
                    shape=value.shape)  # fmt: skip
    graph.insert_before(node, add)
    node.replace_input_with(0, add.outputs[0])
    zeros = add_initializer(graph, np.zeros(np.shape(scale), np.int8), names("int8_zero_point"))
    for item in (node, *backs):
        item.replace_input_with(2, zeros)
    for place, total in sums:
        add_to_bias(graph, place, -float(offset) * total, names)
    return ""


def _summed(node: ir.Node) -> Array | None:
    """The weight summed over all but its output channels, float64."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    maker = None if weight is None else weight.producer()
    if maker is not None and maker.op_type == "DequantizeLinear":
        parts = [constant_array(value) for value in maker.inputs]
        if maker.attributes.get_int("block_size", 0) or parts[0] is None or parts[1] is None:
            return None
        if len(parts) > 2 and (parts[2] is None or parts[2].any()):
            return None
        form = [1] * parts[0].ndim
        if parts[1].size > 1:
            form[maker.attributes.get_int("axis", 1)] = -1
        array = parts[0].astype(np.float64) * parts[1].astype(np.float64).reshape(form if parts[1].size > 1 else ())
    else:
        found = constant_array(weight)
        if found is None:
            return None
        array = found.astype(np.float64)
    if node.op_type == "Conv":
        return np.asarray(array.reshape(array.shape[0], -1).sum(1))
    if node.op_type == "Gemm":
        return np.asarray(array.sum(1 if node.attributes.get_int("transB", 0) else 0))
    return np.asarray(array.sum(0)) if node.op_type == "MatMul" and array.ndim == 2 else None
