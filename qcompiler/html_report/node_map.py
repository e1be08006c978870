"""Every node of the float graph with the precision it runs in, and the islands of float between integer nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, is_float
from qcompiler.plan import QuantPlan
from qcompiler.precision_report import precision_of, runs_of

KINDS = ("integer", "models", "weight_only", "kept", "float", "other")
"""Integer kernels; fewer bits in int8 containers; int4 weights; float for a reason; other float; no floats at all."""


def node_map(model: ir.Model, plan: QuantPlan) -> dict[str, Any]:
    """{"operators", "reasons", "precisions": lists of words, "rows", "islands"} of the float graph.

    A row is [name, operator, kind, precision, reason, island], words by their place in those lists and -1 for none;
    nodes of bodies follow the node that owns them. An island is {"nodes", "operators", "first", "last", "moves"}, the
    last true where it only moves elements; largest first.
    """
    operators, reasons, precisions = _Words(), _Words(), _Words()
    nodes = list(model.graph.all_nodes())
    kinds = {id(node): _kind(node, plan) for node in nodes}
    islands = float_islands(list(model.graph), [kinds[id(node)] for node in model.graph])
    islands.sort(key=len, reverse=True)
    member = {id(node): place for place, island in enumerate(islands) for node in island}
    rows = []
    for node in nodes:
        name, kind = str(node.name), kinds[id(node)]
        quantized = kind in ("integer", "models", "weight_only")
        precision = precisions(str(precision_of(plan, name, _inputs(node)))) if quantized else -1
        reason = reasons(plan.floats[name]) if name in plan.floats and not quantized else -1
        operator = operators(f"{node.domain}::{node.op_type}" if node.domain else node.op_type)
        rows.append([name, operator, KINDS.index(kind), precision, reason, member.get(id(node), -1)])
    return {
        "operators": operators.words, "reasons": reasons.words, "precisions": precisions.words, "rows": rows,
        "islands": [_described(island) for island in islands],
    }  # fmt: skip


def float_islands(nodes: Sequence[ir.Node], kinds: Sequence[str]) -> list[list[ir.Node]]:
    """Connected float nodes that have integer ones both before and behind them, in graph order.

    Args:
        kinds: Of each node; "other" nodes connect nothing.
    """
    place = {id(node): index for index, node in enumerate(nodes)}
    group = list(range(len(nodes)))
    before: set[int] = set()
    behind: set[int] = set()
    edges = [
        (place[id(maker)], index)
        for index, node in enumerate(nodes)
        for value in node.inputs
        if value is not None and (maker := value.producer()) is not None and id(maker) in place
    ]

    def root(index: int) -> int:
        while group[index] != index:
            group[index] = group[group[index]]
            index = group[index]
        return index

    integer = [kind in ("integer", "models") for kind in kinds]
    loose = [kind in ("kept", "float", "weight_only") for kind in kinds]
    for first, second in edges:
        if loose[first] and loose[second]:
            group[max(root(first), root(second))] = min(root(first), root(second))
        elif integer[first] and loose[second]:
            before.add(second)
        elif loose[first] and integer[second]:
            behind.add(first)
    kept = {root(index) for index in before} & {root(index) for index in behind}
    found: dict[int, list[ir.Node]] = {}
    for index, node in enumerate(nodes):
        if loose[index] and root(index) in kept:
            found.setdefault(root(index), []).append(node)
    return list(found.values())


def _kind(node: ir.Node, plan: QuantPlan) -> str:
    name = str(node.name)
    if name in plan.nodes or name in plan.weights:
        return runs_of(precision_of(plan, name, _inputs(node)))
    if name in plan.floats:
        return "kept"
    return "float" if any(is_float(value) for value in node.outputs) else "other"


def _inputs(node: ir.Node) -> list[str]:
    return ["" if value is None else str(value.name) for value in node.inputs]


def _described(island: Sequence[ir.Node]) -> dict[str, Any]:
    return {
        "nodes": len(island),
        "operators": _counted(node.op_type for node in island),
        "first": str(island[0].name),
        "last": str(island[-1].name),
        "moves": all(node.op_type in LAYOUT_OPS for node in island),
    }


def _counted(words: Iterable[str]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class _Words:
    """A list of different words, and the place of each."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._place: dict[str, int] = {}

    def __call__(self, word: str) -> int:
        if word not in self._place:
            self._place[word] = len(self.words)
            self.words.append(word)
        return self._place[word]
