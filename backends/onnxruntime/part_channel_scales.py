"""DequantizeLinear by channel of computed codes -> DequantizeLinear by 1, then Mul by the scales.

onnxruntime (1.31) is slow with scales on the last axis, where its channel-last convolutions put them ([1, 6, 80, 384]:
399 microseconds, a tenth of that per tensor), and turns DQ -> Softmax -> Q and its like into integer operators without
looking whether the scales are per channel, then refuses the graph it made. (q - zero) * 1 * s rounds once, as
(q - zero) * s does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node, rank
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class PartChannelScales(Pass):
    """Every DequantizeLinear of computed codes with several scales."""

    name: ClassVar[str] = "part-channel-scales"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        names, matched = FreshNames(model), []
        for node in list(model.graph):
            scale = constant_array(node.inputs[1]) if node.op_type == "DequantizeLinear" else None
            if scale is None or scale.size == 1 or constant_array(node.inputs[0]) is not None:
                continue
            _part(model.graph, node, np.asarray(scale), names)
            matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched))


def _part(
    graph: ir.Graph, node: ir.Node, scale: np.ndarray[tuple[int, ...], np.dtype[np.float32]], names: FreshNames
) -> None:
    output, axis = node.outputs[0], node.attributes.get_int("axis", 1)
    dims = rank(output) or rank(node.inputs[0]) or axis + 1
    zeros = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    inputs = [node.inputs[0], add_initializer(graph, np.ones((), np.float32), names(f"{node.name}/unit"))]
    if zeros is not None:
        inputs.append(add_initializer(graph, zeros.reshape(-1)[0].reshape(()), names(f"{node.name}/zero_point")))
    form = [1] * dims
    form[axis] = -1
    codes = make_node(
        "DequantizeLinear", inputs, output=names(f"{node.name}/codes"), dtype=output.dtype, shape=output.shape
    )
    factor = add_initializer(graph, scale.reshape(form), names(f"{node.name}/scales"))
    real = make_node(
        "Mul", [codes.outputs[0], factor], output=names(f"{node.name}/real"), dtype=output.dtype, shape=output.shape
    )
    ir.convenience.replace_nodes_and_values(graph, node, [node], [codes, real], [output], [real.outputs[0]])
