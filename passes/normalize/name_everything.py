"""Every node and value gets a name of its own; plans, reports and calibration tables go by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.pipeline import Outcome, Pass


class _Names:
    """Gives out names; linear also where thousands wish for the same one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def __call__(self, wish: str) -> str:
        name = wish
        while name in self._taken:
            self._counts[wish] = self._counts.get(wish, 0) + 1
            name = f"{wish}_{self._counts[wish]}"
        self._taken.add(name)
        return name


@dataclass(frozen=True)
class NameEverything(Pass):
    """Names become unique over the model, subgraphs included, and depend on the graph only.

    The first bearer of a name keeps it; inputs and outputs of the main graph come first, so theirs never change.
    Values and nodes are two separate sets of names. A nameless node is called after its first output. Optional outputs
    that nobody reads stay nameless, which is how ONNX leaves them out.
    """

    name: ClassVar[str] = "name-everything"

    def run(self, model: ir.Model) -> Outcome:
        renamed: list[str] = []
        values, nodes = _Names(), _Names()
        fixed = [*model.graph.inputs, *model.graph.outputs]
        seen: set[int] = set()
        for value in fixed:
            if id(value) not in seen and value.name:
                seen.add(id(value))
                values(value.name)
        for value, wish in _values(model):
            if id(value) in seen:
                continue
            seen.add(id(value))
            name = values(value.name or wish)
            if name != value.name:
                value.name = name
                renamed.append(name)
        for node in model.graph.all_nodes():
            first = next((value.name for value in node.outputs if value.name), "")
            name = nodes(node.name or first or node.op_type)
            if name != node.name:
                node.name = name
                renamed.append(name)
        return Outcome(bool(renamed), tuple(renamed))


def _values(model: ir.Model) -> Iterator[tuple[ir.Value, str]]:
    for graph in model.graphs():
        for value in graph.inputs:
            yield value, "input"
        for value in list(graph.initializers.values()):
            yield value, "constant"
        for node in graph:
            for index, value in enumerate(node.outputs):
                if value.name or value.uses() or value.is_graph_output() or index == 0:
                    yield value, f"{node.name or node.op_type}_out{index}"
