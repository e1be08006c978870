"""Weights to integers behind a DequantizeLinear, by the plan: w -> DQ(int8 codes, scale per channel)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node
from qcompiler.passes.quant.planned_weights import planned_codes
from qcompiler.pipeline import Outcome, Pass, Skip
from qcompiler.plan import QuantPlan
from qcompiler.scheme import PerBlock, QuantScheme, TensorQuant
from qcompiler.weight_file import forget_pages


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Codes are made once for each pair of initializer and scales, however many nodes share it.

    The float initializer stays where a float reader is left (an embedding tied to the head) and goes otherwise.
    """

    name: ClassVar[str] = "quantize-weights"
    keeps_float: ClassVar[bool] = False
    plan: QuantPlan = field(default_factory=QuantPlan, repr=False)

    def run(self, model: ir.Model) -> Outcome:
        names = FreshNames(model)
        made: dict[tuple[str, QuantScheme, bytes, str], ir.Value] = {}
        matched, skipped = [], []
        for node in list(model.graph):
            for index, quant in self.plan.weights.get(node.name or "", {}).items():
                value = node.inputs[index] if index < len(node.inputs) else None
                array = constant_array(value)
                if value is None or array is None:
                    skipped.append(Skip(str(node.name), f"input {index} is not constant"))
                    continue
                own = str(node.name) if node.name in self.plan.codes else ""  # codes that suit this node's inputs
                key = (str(value.name), quant.scheme, quant.scale.tobytes(), own)
                if key not in made:
                    codes = planned_codes(self.plan, str(node.name), index, array)
                    made[key] = _insert_dequantize(model.graph, node, value, codes, quant, names)
                    matched.append(str(value.name))
                    forget_pages(value.const_value)
                node.replace_input_with(index, made[key])
                if value.producer() is None and not value.uses() and not value.is_graph_output():
                    model.graph.initializers.pop(str(value.name), None)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def meant_for(self, model: ir.Model) -> bool:
        return bool(self.plan.weights)


def _insert_dequantize(
    graph: ir.Graph,
    node: ir.Node,
    value: ir.Value,
    codes: np.ndarray[Any, Any],
    quant: TensorQuant,
    names: FreshNames,
) -> ir.Value:
    dtype, carrier = quant.scheme.dtype, value.dtype or ir.DataType.FLOAT
    base = str(value.name)
    inputs: list[ir.Value | None] = [
        add_initializer(graph, codes, names(f"{base}_quantized"), dtype),
        add_initializer(graph, quant.scale.astype(carrier.numpy()), names(f"{base}_scale"), carrier),
    ]
    axis = {} if quant.axis is None else {"axis": quant.axis}
    if isinstance(quant.scheme.granularity, PerBlock):
        axis["block_size"] = quant.scheme.granularity.size  # as many zero points as scales say nothing: left out
    else:
        zero = quant.zero_point if quant.zero_point is not None else np.zeros(quant.scale.shape, dtype.numpy())
        inputs.append(add_initializer(graph, zero, names(f"{base}_zero_point"), dtype))
    shape = value.shape or ir.Shape(codes.shape)
    dequantize = make_node(
        "DequantizeLinear", inputs, axis, output=names(f"{base}_dequantized"), dtype=carrier, shape=shape
    )
    graph.insert_before(node, dequantize)
    return dequantize.outputs[0]
