"""Sum of two becomes Add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import all_nodes
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class SumToAdd(Pass):
    """Sum(a, b) becomes Add(a, b), the one form that later passes look for."""

    name: ClassVar[str] = "sum-to-add"

    def run(self, model: ir.Model) -> Outcome:
        found = [
            node for node in all_nodes(model) if node.domain == "" and node.op_type == "Sum" and len(node.inputs) == 2
        ]
        for node in found:
            node.op_type = "Add"
        return Outcome(bool(found), tuple(node.name or "" for node in found))
