"""A Loop without a condition gets a constant true: the parser reads the omitted input where the body returns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class GiveLoopCondition(Pass):
    """See the module. Matched are the Loops."""

    name: ClassVar[str] = "give-loop-condition"

    def run(self, model: ir.Model) -> Outcome:
        """One shared constant in the main graph, which every body sees."""
        loops = [
            node
            for node in model.graph.all_nodes()
            if node.op_type == "Loop" and (len(node.inputs) < 2 or node.inputs[1] is None)
        ]
        if not loops:
            return Outcome(False)
        true = add_initializer(model.graph, np.array(True), FreshNames(model)("loop_condition"))
        for node in loops:
            if len(node.inputs) < 2:
                node.resize_inputs(2)
            node.replace_input_with(1, true)
        return Outcome(True, tuple(node.name or "" for node in loops))
