"""A Loop that goes through tensors one place a turn becomes a Scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import FreshNames, all_nodes, constant_array, rank
from qcompiler.passes.normalize.operators import has_subgraph, is_deterministic
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.passes.recurrence.scans import drop_dead_steps
from qcompiler.pipeline import Outcome, Pass, Skip


class _Refused(Exception):
    """Why a Loop stays one."""


@dataclass(frozen=True)
class LoopToScan(Pass):
    """Loop(M, true, h, ...) whose body reads Gather(x, t, axis) becomes Scan along that axis of M places of x.

    The turn number t may be read by such Gathers alone, and what they gather from must be the same in all turns.
    Carried tensors become states, what the body gives each turn becomes a scan output, and so does a sequence that
    grows by one tensor a turn and is joined behind the Loop (TorchScript's list of rows, then stack). A body that ends
    the Loop early is left alone. No turn at all, which Loop allows, is an error of Scan.
    """

    name: ClassVar[str] = "loop-to-scan"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        moved = False
        fresh = FreshNames(model)
        for node in list(all_nodes(model)):
            if node.op_type != "Loop" or node.domain != "":
                continue
            site = node.name or "Loop"
            conversion = _Conversion(node, fresh)
            try:
                conversion.run()
                matched.append(site)
            except _Refused as reason:
                skipped.append(Skip(site, str(reason)))
            moved |= conversion.moved
        return Outcome(bool(matched) or moved, tuple(matched), tuple(skipped))


@dataclass(slots=True)
class _Given:
    """What a turn gives: inside, and outside with its axis of turns."""

    inner: ir.Value
    outer: ir.Value
    axis: int


class _Conversion:
    def __init__(self, node: ir.Node, fresh: FreshNames) -> None:
        graph = node.graph
        assert graph is not None
        self.node, self.body, self.graph, self.fresh = node, node.attributes["body"].as_graph(), graph, fresh
        self.make = Builder(graph, fresh, node.name or "loop")
        self.carried = len(node.inputs) - 2
        self.moved = False

    def run(self) -> None:
        """Everything is looked at before anything is changed, but for invariants, which leave the body either way."""
        if not self._runs_all_turns():
            raise _Refused("it may end early")
        count = self.node.inputs[0]
        if count is None:
            raise _Refused("it has no trip count")
        self._move_invariants()
        gathers = self._gathers()
        states, rows = self._carried()
        for place in range(self.carried, len(self.node.outputs)):
            rows.append(_Given(self.body.outputs[place + 1], self.node.outputs[place], 0))
        if not states:
            raise _Refused("it carries no tensor")
        self._write(count, gathers, states, rows)

    def _runs_all_turns(self) -> bool:
        """Whether the condition is true before the first turn and after each."""
        before = self.node.inputs[1]
        starts = before is None or bool((found := constant_array(before)) is not None and found.all())
        after = self.body.outputs[0]
        while (producer := after.producer()) is not None and producer.op_type in ("Identity", "Cast"):
            source = producer.inputs[0]
            assert source is not None
            after = source
        known = constant_array(after)
        goes_on = (known is not None and bool(known.all())) or after is self.body.inputs[1] or after is before
        return starts and goes_on

    def _move_invariants(self) -> None:
        """Nodes that read nothing of the body go in front of the Loop: slices of all rows, axes."""
        for name, value in list(self.body.initializers.items()):
            if not value.is_graph_output():
                del self.body.initializers[name]
                value.name = self.fresh(name)
                self.graph.register_initializer(value)
        inside = {*self.body.inputs, *self.body.initializers.values()}
        for node in list(self.body):
            is_fixed = not has_subgraph(node) and is_deterministic(node) and not _is_returned(node)
            if not is_fixed or any(value in inside for value in node.inputs):
                inside.update(node.outputs)
                continue
            self.body.remove(node)
            self.graph.insert_before(self.node, node)
            self.moved = True

    def _gathers(self) -> list[ir.Node]:
        turn = self.body.inputs[0]
        found = []
        for use in turn.uses():
            node = use.node
            data = node.inputs[0]
            if node.op_type != "Gather" or use.idx != 1 or data is None:
                raise _Refused(f"{node.op_type} reads the turn's number")
            if node.graph is not self.body or data in self.body.inputs or _is_made_in(data, self.body):
                raise _Refused("what it goes through changes from turn to turn")
            if rank(data) is None:
                raise _Refused("the rank of what it goes through is unknown")
            found.append(node)
        if not found:
            raise _Refused("it goes through no tensor")
        if turn.is_graph_output() or self.body.inputs[1].uses():
            raise _Refused("a turn reads the condition")
        return found

    def _carried(self) -> tuple[list[int], list[_Given]]:
        """Places of carried tensors, and rows of carried sequences."""
        states, rows = [], []
        for place in range(self.carried):
            first = self.node.inputs[place + 2]
            producer = None if first is None else first.producer()
            if first is None:
                raise _Refused("a carried tensor has no first value")
            if producer is None or producer.op_type != "SequenceEmpty":
                states.append(place)
            else:
                rows.append(self._row(place))
        return states, rows

    def _row(self, place: int) -> _Given:
        """seq <- SequenceInsert(seq, row), joined with a new axis behind the Loop."""
        old, new, outer = self.body.inputs[place + 2], self.body.outputs[place + 1], self.node.outputs[place]
        insert = new.producer()
        if insert is None or insert.op_type != "SequenceInsert" or insert.inputs[0] is not old or len(old.uses()) > 1:
            raise _Refused("a carried sequence does more than grow")
        joins = [use.node for use in outer.uses()]
        row = insert.inputs[1]
        if len(insert.inputs) > 2 or row is None or len(joins) != 1 or joins[0].op_type != "ConcatFromSequence":
            raise _Refused("a carried sequence is not joined behind the loop")
        if not joins[0].attributes.get_int("new_axis", 0):
            raise _Refused("a carried sequence is joined along an axis of its tensors")
        return _Given(row, joins[0].outputs[0], joins[0].attributes.get_int("axis", 0))

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write(self, count: ir.Value, gathers: list[ir.Node], states: list[int], rows: list[_Given]) -> None:
        body, node = self.body, self.node
        length = self.make.op("Reshape", count, self.make.ints(1), dtype=ir.DataType.INT64)
        along, inner, axes = [], [], []
        for gather in gathers:
            data, output = gather.inputs[0], gather.outputs[0]
            assert data is not None
            axis = gather.attributes.get_int("axis", 0) % (rank(data) or 1)
            value = ir.Value(name=self.fresh(f"{output.name}_along"), type=output.type or data.type)
            sizes = list(data.shape or ())
            value.shape = ir.Shape(sizes[:axis] + sizes[axis + 1 :])
            output.replace_all_uses_with(value)
            if not _is_length(count, data, axis):
                data = self.make.op("Slice", data, self.make.ints(0), length, self.make.ints(axis))
            along.append(data)
            inner.append(value)
            axes.append(axis)
        olds, news = ([list(values)[place + shift] for place in states] for values, shift in
                      ((body.inputs, 2), (body.outputs, 1)))  # fmt: skip
        seen = set(news)
        for item in rows:
            maker = item.inner.producer()
            if item.inner in seen or maker is None or maker.graph is not body:
                copy = ir.node("Identity", [item.inner], num_outputs=1, name=self.fresh(f"{item.inner.name}_given"))
                copy.outputs[0].name, copy.outputs[0].type = copy.name, item.inner.type
                body.append(copy)
                item.inner = copy.outputs[0]
            seen.add(item.inner)
        firsts = [node.inputs[place + 2] for place in states]
        for old, first in zip(olds, firsts, strict=True):
            if first is not None:
                old.type, old.shape = old.type or first.type, first.shape
        lasts = [node.outputs[place] for place in states]
        body.outputs[:] = [*news, *(item.inner for item in rows)]
        drop_dead_steps(body)
        body.inputs[:] = [*olds, *inner]
        del node.attributes["body"]
        attributes = {
            "body": ir.AttrGraph("body", body), "num_scan_inputs": ir.AttrInt64("num_scan_inputs", len(along)),
            "scan_input_axes": ir.AttrInt64s("scan_input_axes", axes),
            "scan_output_axes": ir.AttrInt64s("scan_output_axes", [item.axis for item in rows]),
        }  # fmt: skip
        if not rows:
            del attributes["scan_output_axes"]
        scan = ir.Node("", "Scan", [*firsts, *along], attributes, num_outputs=len(lasts) + len(rows), name=node.name)
        self.make.nodes.append(scan)
        self.make.insert_before(node)
        for old, made in zip([*lasts, *(item.outer for item in rows)], scan.outputs, strict=True):
            made.type = old.type
            rename_to(old, made)
        joins = [maker for item in rows if (maker := item.outer.producer()) is not None and maker is not node]
        self.graph.remove([node, *joins], safe=True)


def _is_made_in(value: ir.Value, body: ir.Graph) -> bool:
    producer = value.producer()
    return producer is not None and producer.graph is body


def _is_length(count: ir.Value, data: ir.Value, axis: int) -> bool:
    """Whether the number of turns is the size of that axis, as a number or by its name."""
    size = None if data.shape is None else data.shape[axis]
    known = constant_array(count)
    if known is not None:
        return bool(known.size == 1 and known.reshape(-1)[0] == size)
    gather = count.producer()
    while gather is not None and gather.op_type in ("Reshape", "Squeeze", "Cast", "Identity") and gather.inputs[0]:
        gather = gather.inputs[0].producer()
    read = None if gather is None or gather.inputs[0] is None else gather.inputs[0].producer()
    if gather is None or read is None or (gather.op_type, read.op_type) != ("Gather", "Shape") or read.attributes:
        return False
    place, source = constant_array(gather.inputs[1]), read.inputs[0]
    if place is None or place.size != 1 or source is None or source.shape is None:
        return False
    other = source.shape[int(place.reshape(-1)[0])]
    if not isinstance(size, ir.SymbolicDim) or not isinstance(other, ir.SymbolicDim) or size.value is None:
        return False
    return size.value == other.value


def _is_returned(node: ir.Node) -> bool:
    return any(value.is_graph_output() for value in node.outputs)
