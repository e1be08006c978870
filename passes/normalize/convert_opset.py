"""The model in the opset of the target, up or down, subgraphs included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.passes.normalize.opset_steps import convert_nodes
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class ConvertOpset(Pass):
    """Each node as the target's opset says it.

    Going down, a node keeps its form where the older schema takes its attributes, operands and types; operators that
    the older opset lacks must have been taken apart (`expand-operators`).

    Raises:
        UnsupportedError: What cannot be said in the target's opset; names node, operator and opset.
    """

    name: ClassVar[str] = "convert-opset"
    opset: int = 19

    def run(self, model: ir.Model) -> Outcome:
        source, ir_version = model.opset_imports[""], _IR_VERSION.get(self.opset, model.ir_version)
        relabelled = model.ir_version != ir_version
        model.ir_version = ir_version
        if source == self.opset:
            return Outcome(relabelled)
        changed = convert_nodes(model.graph, source, self.opset)
        for graph in model.graphs():
            graph.opset_imports[""] = self.opset
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            node.version = None
        return Outcome(True, tuple(changed))


_IR_VERSION = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13}
"""The IR version that each opset was released with; older runtimes refuse newer ones."""
