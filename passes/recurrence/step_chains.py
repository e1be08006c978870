"""Chains h[t] = a[t] * h[t-1] + b[t] that an exporter wrote out step by step."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

FEWEST = 4
"""Steps below which nothing is gained."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The Add of each step, in order of time, and the state before the first."""

    first: ir.Value
    adds: tuple[ir.Node, ...]

    @property
    def before(self) -> list[ir.Value]:
        """The state before each step."""
        return [self.first, *(node.outputs[0] for node in self.adds[:-1])]

    @property
    def after(self) -> list[ir.Value]:
        """The state after each step."""
        return [node.outputs[0] for node in self.adds]


def find_chains(graph: ir.Graph) -> list[Chain]:
    """Longest chains of at least `FEWEST` steps, no Add in two of them; the graph must be sorted.

    Each Add is looked at once, from the last to the first: linear in the number of nodes.
    """
    behind: dict[ir.Node, tuple[int, ir.Node | None]] = {}
    adds = [node for node in graph if node.op_type == "Add" and node.domain == "" and len(node.inputs) == 2]
    known = set(adds)
    for node in reversed(adds):
        nexts = [other for other in _readers(node.outputs[0]) if other in known and other in behind]
        best = max(nexts, key=lambda other: behind[other][0], default=None)
        behind[node] = (1 + (behind[best][0] if best is not None else 0), best)
    found, taken = [], set[ir.Node]()
    for node in adds:
        if node in taken or behind[node][0] < FEWEST:
            continue
        steps: list[ir.Node] = []
        step: ir.Node | None = node
        while step is not None and step not in taken:
            steps.append(step)
            taken.add(step)
            step = behind[step][1]
        first = _first_state(steps)
        if first is not None and len(steps) >= FEWEST:
            found.append(Chain(first, tuple(steps)))
    return found


def _readers(state: ir.Value) -> list[ir.Node]:
    """Adds of a product with the state."""
    products = [use.node for use in state.uses() if use.node.op_type == "Mul" and use.node.domain == ""]
    return [use.node for product in products for use in product.outputs[0].uses()]


def _first_state(steps: list[ir.Node]) -> ir.Value | None:
    """What stands in the first step where the second has the first's result."""
    if len(steps) < 2:
        return None
    state = steps[0].outputs[0]
    for side, value in enumerate(steps[1].inputs):
        product = None if value is None else value.producer()
        if product is None or product.op_type != "Mul" or state not in product.inputs:
            continue
        place = next(index for index, item in enumerate(product.inputs) if item is state)
        ahead = steps[0].inputs[side]
        before = None if ahead is None else ahead.producer()
        if before is not None and before.op_type == "Mul" and len(before.inputs) == 2:
            return before.inputs[place]
    return None
