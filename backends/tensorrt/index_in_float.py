"""The index of a lookup by float arithmetic: TensorRT takes no zero point, nor int8 codes without a DequantizeLinear.

    Q(x, s, -128) -> Cast(int32) -> Add(128 + rows)
        ->  Mul(x, 1 / s) -> Round -> Clip(0, 255) -> Cast(int32) [-> Add(rows)]

Both round half to even. The product with 1 / s in place of a division may move a value that lies on the border of two
codes, within float rounding, to its neighbour; 0 stays 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, SharedConstants, constant_array, make_node, sole_consumer
from qcompiler.pipeline import Outcome, Pass

_OFFSET, _LAST = 128, 255


@dataclass(frozen=True)
class IndexInFloat(Pass):
    """Every QuantizeLinear with zero point -128 whose codes a Cast reads alone and an Add of a constant behind it."""

    name: ClassVar[str] = "index-in-float"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        names, matched = FreshNames(model), []
        constant = SharedConstants(model.graph, names)
        for node in list(model.graph):
            cast = sole_consumer(node.outputs[0]) if node.op_type == "QuantizeLinear" and len(node.inputs) > 2 else None
            add = sole_consumer(cast.outputs[0]) if cast is not None and cast.op_type == "Cast" else None
            if cast is None or add is None or add.op_type != "Add":
                continue
            scale, zero, rows = (constant_array(value) for value in (*node.inputs[1:3], add.inputs[1]))
            if scale is None or zero is None or rows is None or scale.size != 1 or int(zero.reshape(-1)[0]) != -_OFFSET:
                continue
            _rewrite(model.graph, node, cast, add, names, constant)
            matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched))


def _rewrite(
    graph: ir.Graph, quantize: ir.Node, cast: ir.Node, add: ir.Node, names: FreshNames, constant: SharedConstants
) -> None:
    value, scale, rows = quantize.inputs[0], constant_array(quantize.inputs[1]), constant_array(add.inputs[1])
    assert value is not None and scale is not None and rows is not None
    source: ir.Value = value

    def node(op: str, inputs: list[ir.Value | None], suffix: str) -> ir.Node:
        output = names(f"{source.name}_{suffix}")
        return make_node(op, inputs, output=output, dtype=source.dtype, shape=source.shape)

    steps = constant(np.asarray(1 / np.float64(scale.reshape(-1)[0]), scale.dtype), "softmax_steps")
    bounds = [constant(np.asarray(code, scale.dtype), f"softmax_code_{code}") for code in (0, _LAST)]
    scaled = node("Mul", [value, steps], "in_steps")
    rounded = node("Round", [scaled.outputs[0]], "rounded")
    clipped = node("Clip", [rounded.outputs[0], *bounds], "fine_codes")
    graph.insert_before(quantize, [scaled, rounded, clipped])
    cast.replace_input_with(0, clipped.outputs[0])
    moved = rows - _OFFSET
    if moved.any():
        add.replace_input_with(1, constant(moved, "softmax_rows"))
    else:
        add.outputs[0].replace_all_uses_with(cast.outputs[0])
        graph.remove(add, safe=True)
    graph.remove(quantize, safe=True)
