"""If on a known condition becomes the branch that is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import FreshNames, all_nodes, constant_array
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class InlineBranches(Pass):
    """If(c) {a} else {b} becomes a or b where c is constant; in bodies too. TorchScript writes squeeze(x, k) so."""

    name: ClassVar[str] = "inline-branches"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        found = [node for node in all_nodes(model) if node.op_type == "If" and node.domain == ""]
        fresh = FreshNames(model) if found else None
        for node in found:
            condition = constant_array(node.inputs[0])
            if condition is None or condition.size != 1 or fresh is None or node.graph is None:
                continue
            _inline(node, "then_branch" if condition.reshape(-1)[0] else "else_branch", fresh)
            matched.append(node.name or "If")
        return Outcome(bool(matched), tuple(matched))


def _inline(node: ir.Node, branch: str, fresh: FreshNames) -> None:
    outer, inner = node.graph, node.attributes[branch].as_graph()
    assert isinstance(outer, ir.Graph)
    for value in list(inner.initializers.values()):
        del inner.initializers[str(value.name)]
        value.name = fresh(str(value.name))
        outer.register_initializer(value)
    for name, attribute in node.attributes.items():
        if name != branch:
            _discard(attribute.as_graph())
    given = list(inner.outputs)
    inner.outputs.clear()
    steps = list(inner)
    inner.remove(steps)
    for old, value in zip(node.outputs, given, strict=True):
        # an Identity: the branch may give a value of the graph outside
        copy = ir.node("Identity", [value], num_outputs=1, name=fresh(f"{old.name}_taken"))
        steps.append(copy)
        taken, new = old.name, copy.outputs[0]
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name, new.name = None, taken
    outer.insert_before(node, steps)
    outer.remove(node, safe=True)


def _discard(graph: ir.Graph) -> None:
    """The nodes read nothing any more: values outside would still count them as readers."""
    graph.outputs.clear()
    for node in graph.all_nodes():
        for place in range(len(node.inputs)):
            node.replace_input_with(place, None)
