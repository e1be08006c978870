"""Nodes, optional outputs and initializers that nothing reads go away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class DropUnused(Pass):
    """Removes what no output of the graph depends on; inputs and outputs of the graph stay, used or not."""

    name: ClassVar[str] = "drop-unused"

    def run(self, model: ir.Model) -> Outcome:
        dropped = _drop_nodes(model.graph)
        for graph in model.graphs():
            for name, value in list(graph.initializers.items()):
                if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                    del graph.initializers[name]
                    dropped.append(name)
        return Outcome(bool(dropped), tuple(dropped))


def _drop_nodes(graph: ir.Graph) -> list[str]:
    dropped = []
    for node in reversed(graph):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
            dropped.append(node.name or node.op_type)
            continue
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                dropped += _drop_nodes(attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS:
                for inner in attribute.as_graphs():
                    dropped += _drop_nodes(inner)
    return dropped
