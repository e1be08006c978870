"""Section "operators": how many there are of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.traversal import RecursiveGraphIterator

from qcompiler.diffing.changes import Section
from qcompiler.diffing.families import operator_name


def every_node(model: ir.Model) -> Iterator[ir.Node]:
    """Nodes of the main graph, of functions, and of the subgraphs in both."""
    yield from RecursiveGraphIterator(model.graph)
    for function in model.functions.values():
        yield from RecursiveGraphIterator(function)


def operators_of(model: ir.Model) -> Counter[str]:
    """Operator to count, subgraphs and functions included; Constant left out, which is an initializer otherwise put."""
    found = Counter(operator_name(node.domain, node.op_type) for node in every_node(model))
    del found["Constant"]
    return found


def operators_section(first: ir.Model, second: ir.Model) -> Section:
    """Operators whose counts differ, the largest difference first."""
    ours, theirs = operators_of(first), operators_of(second)
    differing = sorted({*ours, *theirs}, key=lambda name: (-abs(theirs[name] - ours[name]), name))
    rows = tuple((name, str(ours[name]), str(theirs[name])) for name in differing if ours[name] != theirs[name])
    total = f"{ours.total()} -> {theirs.total()} operators" if rows else f"{ours.total()} operators in both"
    facts = {"before": dict(sorted(ours.items())), "after": dict(sorted(theirs.items()))}
    return Section("operators", (), (total,), facts, rows)
