"""States between calls as int8, by the plan: the graph takes codes and gives codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.dither import SPREAD, phases
from qcompiler.graph import FreshNames, add_initializer, make_node
from qcompiler.pipeline import Outcome, Pass, Skip
from qcompiler.plan import QuantPlan, StateQuant


@dataclass(frozen=True)
class QuantizeStates(Pass):
    """past (float) -> readers   becomes   past (int8) -> DequantizeLinear -> readers, and
    present (float)   becomes   present_real -> QuantizeLinear -> present (int8), rounding half to even.

    A dithered state becomes present_real + (u - 1/2) scale before it is rounded (`qcompiler/dither.py`). Within a call
    nothing is rounded: what reads the new state reads it as float. Both ends share one scale and have
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
            elif state.dither and not can_dither(model.graph.outputs[outputs[state.next]]):
                skipped.append(Skip(name, "the size of its last axis is not known, which its dither needs"))
            elif inputs[name].dtype == state.quant.scheme.dtype:
                skipped.append(Skip(name, "it is in codes already"))
            else:
                _quantize(model.graph, inputs[name], outputs[state.next], state, names)
                matched.append(name)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def meant_for(self, model: ir.Model) -> bool:
        return bool(self.plan.states)


def can_dither(value: ir.Value) -> bool:
    """Whether the size of its last axis is known."""
    return value.shape is not None and len(value.shape) > 1 and isinstance(value.shape[-1], int)


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
    rounded = _dithered(graph, last, state, names) if state.dither else last
    codes = make_node("QuantizeLinear", [rounded, scale, zero], output=name, dtype=dtype, shape=last.shape,
                      name=names(f"{name}_quantize"))  # fmt: skip
    graph.append(codes)
    graph.outputs[index] = codes.outputs[0]


def _dithered(graph: ir.Graph, last: ir.Value, state: StateQuant, names: FreshNames) -> ir.Value:
    """last + (fraction(SPREAD / scale * mean(last) + phases) - 1/2) * scale; the mean of all axes but the batch."""
    assert last.shape is not None
    dims, size, scale = len(last.shape), last.shape[-1], float(state.quant.scale)
    assert isinstance(size, int)  # `run` skips the others
    carrier = last.dtype or ir.DataType.FLOAT
    made: dict[str, ir.Value] = {"last": last}

    def constant(word: str, array: np.ndarray[Any, Any]) -> None:
        made[word] = add_initializer(graph, array, names(f"{last.name}_{word}"))

    for word, number in (("spread", SPREAD / scale), ("width", scale), ("half", scale / 2)):
        constant(word, np.asarray(number, carrier.numpy()))
    constant("phases", phases(size).astype(carrier.numpy()))
    constant("axes", np.arange(1, dims))
    one, row = ir.Shape([last.shape[0], *[1] * (dims - 1)]), ir.Shape([last.shape[0], *[1] * (dims - 2), size])
    for op_type, operands, word, shape in (
        ("ReduceMean", ("last", "axes"), "mean", one),
        ("Mul", ("mean", "spread"), "turns", one),
        ("Add", ("turns", "phases"), "places", row),
        ("Floor", ("places",), "whole", row),
        ("Sub", ("places", "whole"), "fraction", row),
        ("Mul", ("fraction", "width"), "shift", row),
        ("Sub", ("shift", "half"), "dither", row),
        ("Add", ("last", "dither"), "dithered", last.shape),
    ):
        inputs: list[ir.Value | None] = [made[operand] for operand in operands]
        node = make_node(op_type, inputs, {"keepdims": 1} if op_type == "ReduceMean" else None,
                         output=names(f"{last.name}_{word}"), dtype=carrier, shape=shape)  # fmt: skip
        graph.append(node)
        made[word] = node.outputs[0]
    return made["dithered"]
