"""States between calls as int8, by the plan: the graph takes codes and gives codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, make_node
from qcompiler.pipeline import Outcome, Pass, Skip
from qcompiler.plan import QuantPlan, StateQuant


@dataclass(frozen=True)
class QuantizeStates(Pass):
    """past (float) -> readers   becomes   past (int8) -> DequantizeLinear -> readers, and
    present (float)   becomes   present_real -> QuantizeLinear -> present (int8), rounding half to even.

    Within the call nothing is rounded: what reads the new state reads it as float. Both ends share one scale and have
    no zero point, so that zero codes are the state before the first call. Names of inputs and outputs stay.

    Source: Quamba, arXiv:2410.13229, section 4.1 (caches of the generation stage).
    """

    name: ClassVar[str] = "quantize-states"
    keeps_float: ClassVar[bool] = False
    plan: QuantPlan = field(default_factory=QuantPlan, repr=False)

    def run(self, model: ir.Model) -> Outcome:
        names = FreshNames(model)
        inputs = {str(value.name): value for value in model.graph.inputs}
        outputs = {value.name: index for index, value in enumerate(model.graph.outputs)}
        matched, skipped = [], []
        for name in [*(name for name in inputs if name in self.plan.states), *(self.plan.states.keys() - inputs)]:
            state = self.plan.states[name]
            if name not in inputs or state.next not in outputs:
                skipped.append(Skip(name, "the graph has no such state"))
            elif inputs[name].dtype == state.quant.scheme.dtype:
                skipped.append(Skip(name, "it is in codes already"))
            else:
                _quantize(model.graph, inputs[name], outputs[state.next], state, names)
                matched.append(name)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def meant_for(self, model: ir.Model) -> bool:
        return bool(self.plan.states)


def _quantize(graph: ir.Graph, first: ir.Value, index: int, state: StateQuant, names: FreshNames) -> None:
    quant, last = state.quant, graph.outputs[index]
    dtype, carrier = quant.scheme.dtype, first.dtype or ir.DataType.FLOAT
    scale = add_initializer(graph, quant.scale.astype(carrier.numpy()), names(f"{first.name}_scale"), carrier)
    zero = add_initializer(
        graph, np.zeros(quant.scale.shape, dtype.numpy()), names(f"{first.name}_zero_point"), dtype
    )
    uses = tuple(first.uses())
    real = make_node("DequantizeLinear", [first, scale, zero], output=names(f"{first.name}_dequantized"),
                     dtype=carrier, shape=first.shape)  # fmt: skip
    for use in uses:
        use.node.replace_input_with(use.idx, real.outputs[0])
    graph.insert_before(graph[0], real)
    first.type = ir.TensorType(dtype)  # a new object: clones share types
    name = str(last.name)
    last.name = names(f"{name}_real")
    codes = make_node("QuantizeLinear", [last, scale, zero], output=name, dtype=dtype, shape=last.shape,
                      name=names(f"{name}_quantize"))  # fmt: skip
    graph.append(codes)
    graph.outputs[index] = codes.outputs[0]
