"""Tensors that were made large for all steps before a Scan, or are summed up behind it, are made within its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, constant_array
from qcompiler.passes.recurrence.build import Builder
from qcompiler.passes.recurrence.each_scan import each_scan
from qcompiler.passes.recurrence.in_step import Place, given_axis, places, without, write_in_step
from qcompiler.passes.recurrence.over_time import ELEMENTWISE, elements, rank_of
from qcompiler.passes.recurrence.scans import Along, ScanParts, write_scan
from qcompiler.pipeline import Outcome, Pass

_DEEPEST = 12
"""Nodes between a tensor and what it is made of."""


@dataclass(frozen=True)
class SinkIntoScan(Pass):
    """Scan over exp(dt A) and dt x B, N times as large as dt and x, becomes Scan over dt, x and B.

    Also sum(h C) of all states h behind the Scan becomes an output of its steps. Moved are operators whose result is
    larger than everything they read along time, with nobody else to read it (Hugging Face's and mamba.py's exports).
    """

    name: ClassVar[str] = "sink-into-scan"

    def run(self, model: ir.Model) -> Outcome:
        fresh = FreshNames(model)
        order: dict[ir.Node, int] = {}

        def act(parts: ScanParts) -> bool:
            if not order:
                order.update({node: place for place, node in enumerate(model.graph.all_nodes())})
            return _Sinking(parts, fresh, order).run()

        outcome = each_scan(model, act)
        if outcome.modified:
            for graph in model.graphs():
                graph.sort()
        return outcome


@dataclass(slots=True)
class _Reader:
    """A node behind the Scan, where time is in what it gives, and which operand is the Scan's."""

    node: ir.Node
    axis: int
    operand: int


class _Sinking:
    def __init__(self, parts: ScanParts, fresh: FreshNames, order: dict[ir.Node, int]) -> None:
        graph = parts.node.graph
        assert graph is not None
        self.parts, self.fresh, self.graph, self.order = parts, fresh, graph, order
        self.inside = Builder(parts.body, fresh, parts.node.name or "scan")
        self.outside = Builder(graph, fresh, parts.node.name or "scan")
        self.leaves: set[ir.Value] = set()

    def run(self) -> bool:
        chains = [chain for item in self.parts.outputs if (chain := self._readers(item))]
        roots = [item for item in self.parts.inputs if self._is_made(item.outer, item.axis, item.outer, 0)]
        if not roots and not chains:
            return False
        for item in roots:
            self.parts.inputs.remove(item)
            made = self._in_step(item.outer, item.axis, item.outer, item.backwards)
            item.inner.replace_all_uses_with(made, replace_graph_outputs=True)
        front, self.inside.nodes = self.inside.nodes, []
        for item in self.parts.outputs:
            if chain := self._readers(item):
                self._pull(item, chain)
        first = next(iter(self.parts.body), None)
        if first is None:
            self.parts.body.extend(front)
        else:
            self.parts.body.insert_before(first, front)
        self.parts.body.extend(self.inside.nodes)
        self.outside.insert_before(self.parts.node)
        write_scan(self.parts)
        return True

    # --- in front ----------------------------------------------------------------------------------------------------

    def _is_made(self, value: ir.Value, axis: int, top: ir.Value, depth: int) -> bool:
        """Whether the value is made, by nodes that can be taken step by step, of smaller ones: `leaves`."""
        if depth and (value in self.leaves or _smaller(value, top)):
            self.leaves.add(value)
            return True
        node = value.producer()
        if node is None or node.graph is not self.graph or depth > _DEEPEST or len(value.uses()) != 1:
            return False
        if value.is_graph_output() or value.shape is None:
            return False
        taken = places(node, axis)
        if taken is None or not any(place.timed for place in taken):
            return False
        if node.op_type in ELEMENTWISE:
            self.leaves.update(item for item in node.inputs if item is not None and _is_stretched(item, value))
        timed = [(item, place) for item, place in zip(node.inputs, taken, strict=True) if place.timed]
        return all(item is not None and self._is_made(item, _axis(place), top, depth + 1) for item, place in timed)

    def _in_step(self, value: ir.Value, axis: int, top: ir.Value, backwards: bool) -> ir.Value:
        node = value.producer()
        if value is not top and value in self.leaves:
            return self._along(value, axis, backwards)
        assert node is not None
        taken = places(node, axis)
        assert taken is not None
        operands = self._operands(node, taken, lambda item, at: self._in_step(item, at, top, backwards))
        return write_in_step(self.inside, self.outside, node, axis, taken, operands)

    def _operands(self, node: ir.Node, taken: Sequence[Place], timed: object) -> list[ir.Value]:
        found = []
        for item, place in zip(node.inputs, taken, strict=True):
            assert item is not None and callable(timed)
            if place.timed:
                found.append(timed(item, _axis(place)))
            elif place.axis is None:
                found.append(item)
            elif (array := constant_array(item)) is not None:  # one place of time, the same for all steps
                found.append(self.outside.constant(np.squeeze(array, place.axis)))
            else:
                squeezed = self.outside.op("Squeeze", item, self.outside.ints(place.axis))
                squeezed.shape = without(item.shape, place.axis)
                found.append(squeezed)
        return found

    def _along(self, value: ir.Value, axis: int, backwards: bool) -> ir.Value:
        for item in self.parts.inputs:
            if item.outer is value and item.axis == axis and item.backwards == backwards:
                return item.inner
        inner = ir.Value(name=self.fresh(f"{value.name}_along"), type=value.type, shape=without(value.shape, axis))
        self.parts.inputs.append(Along(value, inner, axis, backwards))
        return inner

    # --- behind ------------------------------------------------------------------------------------------------------

    def _readers(self, output: Along) -> list[_Reader]:
        """The nodes, one behind the other, up to the last result that is smaller than what the Scan gives."""
        value, axis = output.outer, output.axis
        chain, kept = list[_Reader](), 0
        while len(chain) < _DEEPEST and len(value.uses()) == 1 and not value.is_graph_output():
            use = next(iter(value.uses()))
            given = given_axis(use.node, use.idx, axis) if use.node.graph is self.graph else None
            taken = None if given is None else places(use.node, given)
            if given is None or taken is None or not all(
                spot == use.idx or (item is not None and _smaller(item, output.outer) and self._is_free(item))
                for spot, item in enumerate(use.node.inputs)
            ):  # fmt: skip
                break
            chain.append(_Reader(use.node, given, use.idx))
            value, axis = use.node.outputs[0], given
            if _smaller(value, output.outer):
                kept = len(chain)
                break
        return chain[:kept]

    def _is_free(self, value: ir.Value) -> bool:
        """Whether the value does not come from the Scan; what stands in front of it cannot."""
        scan, waiting, seen = self.parts.node, [value], set[ir.Node]()
        while waiting:
            node = waiting.pop().producer()
            if node is scan:
                return False
            if node is None or node in seen or self.order.get(node, len(self.order)) < self.order[scan]:
                continue
            seen.add(node)
            waiting += [item for item in node.inputs if item is not None]
            if node.attributes and any(item.type == ir.AttributeType.GRAPH for item in node.attributes.values()):
                return False
        return True

    def _pull(self, output: Along, chain: list[_Reader]) -> None:
        value = output.inner
        for reader in chain:
            taken = places(reader.node, reader.axis)
            assert taken is not None
            own = reader.node.inputs[reader.operand]
            held = value
            operands = self._operands(
                reader.node, taken,
                lambda item, at, own=own, held=held: held if item is own else self._along(item, at, output.backwards),
            )  # fmt: skip
            value = write_in_step(self.inside, self.outside, reader.node, reader.axis, taken, operands)
        last = chain[-1].node.outputs[0]
        stand_in = ir.Value(name=last.name, type=last.type, shape=last.shape)
        stand_in.metadata_props.update(last.metadata_props)
        last.replace_all_uses_with(stand_in, replace_graph_outputs=True)
        last.name = None
        for reader in reversed(chain):
            self.graph.remove(reader.node, safe=True)
        output.outer, output.inner, output.axis = stand_in, value, chain[-1].axis


def _axis(place: Place) -> int:
    assert place.axis is not None
    return place.axis


def _is_stretched(value: ir.Value, product: ir.Value) -> bool:
    """Whether broadcasting repeats the value, also where sizes have no names."""
    if value.shape is None or product.shape is None or rank_of(value) != rank_of(product):
        return False
    return any(one == 1 and other != 1 for one, other in zip(value.shape, product.shape, strict=True))


def _smaller(value: ir.Value, top: ir.Value) -> bool:
    one, other = elements(value), elements(top)
    if value.const_value is not None:
        return True
    if one is None or other is None:
        return False
    names = list(other[1])
    for name in one[1]:
        if name not in names:
            return False
        names.remove(name)
    return one[0] < other[0] or (bool(names) and one[0] <= other[0])
