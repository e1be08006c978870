"""Nodes in topological order, subgraphs included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class SortNodes(Pass):
    """Producers before consumers; nodes that are free keep their order."""

    name: ClassVar[str] = "sort-nodes"

    def run(self, model: ir.Model) -> Outcome:
        before = [id(node) for node in model.graph.all_nodes()]
        model.graph.sort()
        return Outcome(before != [id(node) for node in model.graph.all_nodes()])
