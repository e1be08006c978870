"""Corrections that the plan holds, added to the biases of its layers: b -> b + correction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array
from qcompiler.passes.quant.bias_places import BiasPlace, bias_places
from qcompiler.pipeline import Outcome, Pass, Skip
from qcompiler.plan import QuantPlan


@dataclass(frozen=True)
class CorrectBiases(Pass):
    """Takes out the mean error that quantization leaves in each output channel (see `estimate_biases`).

    A Conv or Gemm without a bias gets one. Initializers are never written in place: others that read them keep theirs.
    """

    name: ClassVar[str] = "correct-biases"
    keeps_float: ClassVar[bool] = False
    plan: QuantPlan = field(default_factory=QuantPlan, repr=False)

    def run(self, model: ir.Model) -> Outcome:
        if not self.plan.biases:
            return Outcome(False)
        names, matched = FreshNames(model), []
        places, skipped = bias_places(model, self.plan.biases)
        for place in places:
            correction = np.asarray(self.plan.biases[place.layer], np.float32)
            if correction.size != place.channels:
                reason = f"{correction.size} corrections for {place.channels} channels"
                skipped.append(Skip(place.layer, reason))
                continue
            _add(model.graph, place, correction, names)
            matched.append(place.layer)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def meant_for(self, model: ir.Model) -> bool:
        return bool(self.plan.biases)


def _add(
    graph: ir.Graph, place: BiasPlace, correction: np.ndarray[tuple[int, ...], np.dtype[np.float32]], names: FreshNames
) -> None:
    node = place.node
    old = node.inputs[place.index] if place.index < len(node.inputs) else None
    array = constant_array(old)
    total = correction if array is None else array.reshape(-1).astype(np.float64) + correction
    shape = (place.channels,) if array is None else array.shape
    wish = f"{place.layer}_bias" if old is None else f"{old.name}_corrected"
    new = add_initializer(graph, np.asarray(total, np.float32).reshape(shape), names(wish))
    if place.index >= len(node.inputs):
        node.resize_inputs(place.index + 1)
    node.replace_input_with(place.index, new)
    if old is not None and old.producer() is None and not old.uses() and not old.is_graph_output():
        graph.initializers.pop(str(old.name), None)
