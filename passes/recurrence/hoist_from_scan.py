"""What a Scan computes without its state is computed for all steps at once, outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import FreshNames, constant_array
from qcompiler.passes.normalize.operators import has_subgraph, is_deterministic
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.passes.recurrence.each_scan import Refused, each_scan
from qcompiler.passes.recurrence.over_time import Operand, expands, is_writable, rank_of, write_over_time
from qcompiler.passes.recurrence.scans import (
    Along,
    ScanParts,
    drop_dead_steps,
    drop_unused_inputs,
    write_scan,
)
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class HoistFromScan(Pass):
    """Scan over x with g(s, f(x)) inside becomes Scan over f(x), and h(y, x) at an output becomes h behind the Scan.

    Out go: nodes that no scan input reaches; nodes that the state does not reach; and those between the state and an
    output alone, all only where the result is no larger than what it is made of; and every product with a weight, which
    outside is one large product that quantizes. exp(dt A) and dt x B, N times as large
    as dt and x, stay: for all steps they take memory that grows with the length, and onnxruntime runs a Scan that reads
    them from memory at half the speed (docs/state-space.md).
    """

    name: ClassVar[str] = "hoist-from-scan"

    def run(self, model: ir.Model) -> Outcome:
        fresh = FreshNames(model)

        def act(parts: ScanParts) -> bool:
            if any(item.axis for item in (*parts.inputs, *parts.outputs)):
                raise Refused("time is not the first axis of what goes along")
            if not _Hoist(parts, fresh).run():
                raise Refused("everything in a step depends on the state or grows")
            return True

        return each_scan(model, act)


@dataclass(slots=True)
class _Peeled:
    """A node that goes behind the Scan; the operand that the Scan now gives is None."""

    node: ir.Node
    operands: list[Operand | None]
    rank: int


class _Hoist:
    def __init__(self, parts: ScanParts, fresh: FreshNames) -> None:
        graph = parts.node.graph
        assert graph is not None
        self.parts, self.fresh = parts, fresh
        self.make = Builder(graph, fresh, parts.node.name or "scan")
        self.timed = {item.inner: item for item in parts.inputs}
        self.fixed: dict[ir.Value, ir.Value] = {}
        self.gone: set[ir.Node] = set()
        self.changed = False

    def run(self) -> bool:
        for node in list(self.parts.body):
            self._lift(node)
        self._read_lifted()
        chains = [(output, self._peel(output)) for output in self.parts.outputs]
        self.changed |= any(chain for _, chain in chains)
        self.changed |= drop_unused_inputs(self.parts)
        if not self.changed:
            self.make.discard()
            return False
        self.make.insert_before(self.parts.node)
        scan = write_scan(self.parts)
        drop_dead_steps(self.parts.body)
        if drop_unused_inputs(self.parts):
            scan = write_scan(self.parts)
        for output, chain in chains:
            self._write_behind(scan, output, chain)
        return True

    # --- in front ----------------------------------------------------------------------------------------------------

    def _operand(self, value: ir.Value | None) -> Operand | None:
        """The value as it is outside; None where it depends on the state or its rank is unknown."""
        dims = None if value is None else rank_of(value)
        if value is None or dims is None:
            return None
        if value in self.timed:
            return Operand(self.timed[value].outer, dims, True)
        if value in self.fixed:
            return Operand(self.fixed[value], dims, False)
        is_local = value.name in self.parts.body.initializers and value.const_value is not None
        return Operand(value, dims, False) if is_local or not self.parts.inside(value) else None

    def _outside(self, item: Operand) -> Operand:
        """The operand where a constant of the body is one of the graph outside."""
        value = item.value
        if value.const_value is None or self.parts.body.initializers.get(value.name or "") is not value:
            return item
        return replace(item, value=self.make.constant(value.const_value.numpy()))

    def _lift(self, node: ir.Node) -> None:
        operands = [item for value in node.inputs if (item := self._operand(value)) is not None]
        if not operands or len(operands) != len(node.inputs) or len(node.outputs) != 1:
            return
        output = node.outputs[0]
        inputs = [value for value in node.inputs if value is not None and value in self.timed]
        directions = {self.timed[value].backwards for value in inputs}
        if not directions:
            if node.domain == "" and not has_subgraph(node) and is_deterministic(node):
                outside: list[ir.Value | None] = [self._outside(item).value for item in operands]
                self.fixed[output] = self.make.copy(node, outside)
        elif len(directions) == 1 and _pays(node, inputs) and _writable(node, operands):
            made = write_over_time(self.make, node, [self._outside(item) for item in operands])
            self.timed[output] = Along(made, output, 0, directions.pop())

    def _read_lifted(self) -> None:
        """What stays reads the values from outside; a value that the body itself gives is still computed there."""
        lifted = {value.producer() for value in (*self.timed, *self.fixed)}
        for value, outer in self.fixed.items():
            self.changed |= bool(value.uses())
            _reread(value, outer)
        for value, item in list(self.timed.items()):
            if value.producer() is None:
                continue
            for output in list(self.parts.outputs):
                if output.inner is value and output.backwards == item.backwards and len(self.parts.outputs) > 1:
                    rename_to(output.outer, item.outer)
                    self.parts.outputs.remove(output)
                    self.changed = True
            if all(use.node in lifted for use in value.uses()):
                continue
            inner = ir.Value(name=self.fresh(f"{value.name}_step"), type=value.type, shape=value.shape)
            self.parts.inputs.append(Along(item.outer, inner, 0, item.backwards))
            _reread(value, inner)
            self.timed[inner] = self.parts.inputs[-1]
            self.changed = True

    # --- behind ------------------------------------------------------------------------------------------------------

    def _peel(self, output: Along) -> list[_Peeled]:
        """Nodes between what the body will give and what it gave, the last one first; the output is changed."""
        found = []
        while (peeled := self._last_node(output)) is not None:
            place = peeled.operands.index(None)
            below = peeled.node.inputs[place]
            assert below is not None
            output.inner = below
            self.gone.add(peeled.node)
            found.append(peeled)
        return found

    def _last_node(self, output: Along) -> _Peeled | None:
        value, node = output.inner, output.inner.producer()
        given = Counter([*(item.new for item in self.parts.states), *(item.inner for item in self.parts.outputs)])
        if node is None or given[value] > 1 or value in self.timed or value in self.fixed:
            return None
        operands = [self._operand(item) for item in node.inputs]
        left = [item for item, known in zip(node.inputs, operands, strict=True) if known is None]
        below = left[0] if len(left) == 1 else None
        dims = None if below is None else rank_of(below)
        if below is None or dims is None or below.producer() is None or given[below] or len(below.uses()) > 1:
            return None
        if any(use.node not in self.gone for use in value.uses()):
            return None
        known = [item or Operand(below, dims, True) for item in operands]
        same = all(self.timed[item].backwards == output.backwards for item in node.inputs if item in self.timed)
        if not same or expands(below, [value]) or not _writable(node, known):
            return None
        return _Peeled(node, [item and self._outside(item) for item in operands], dims)

    def _write_behind(self, scan: ir.Node, output: Along, chain: list[_Peeled]) -> None:
        if not chain:
            return
        value = output.outer
        for peeled in reversed(chain):
            given = Operand(value, peeled.rank, True)
            value = write_over_time(self.make, peeled.node, [item or given for item in peeled.operands])
        uses = tuple(output.outer.uses())
        shape, written = output.outer.shape, {id(node) for node in self.make.nodes}
        rename_to(output.outer, value)
        for use in uses:
            if id(use.node) in written:
                use.node.replace_input_with(use.idx, output.outer)
        value.shape, output.outer.shape = shape, None
        self.make.insert_after(scan)


def _reread(old: ir.Value, new: ir.Value) -> None:
    """Nodes read `new`; where the body gives `old`, it still does."""
    for use in tuple(old.uses()):
        use.node.replace_input_with(use.idx, new)


def _pays(node: ir.Node, inputs: Sequence[ir.Value]) -> bool:
    """A projection belongs outside whatever its size: for all steps it is one large product, which quantizes."""
    is_projection = node.op_type == "MatMul" and constant_array(node.inputs[1]) is not None
    return is_projection or not expands(node.outputs[0], inputs)


def _writable(node: ir.Node, operands: Sequence[Operand]) -> bool:
    timed = [place for place, item in enumerate(operands) if item.timed]
    return is_writable(node, min(item.rank for item in operands), timed)
