"""Corrections that the plan holds, added to the biases of its layers: b -> b + correction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames
from qcompiler.passes.quant.bias_places import add_to_bias, bias_places
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
            add_to_bias(model.graph, place, correction, names)
            matched.append(place.layer)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def meant_for(self, model: ir.Model) -> bool:
        return bool(self.plan.biases)

