"""A recurrence written out step by step becomes one Scan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, constant_array, rank
from qcompiler.passes.recurrence.build import Builder, detach, rename_to
from qcompiler.passes.recurrence.columns import Columns, StepsDiffer
from qcompiler.passes.recurrence.step_chains import Chain, find_chains
from qcompiler.pipeline import Outcome, Pass, Skip

_FARTHEST = 24
"""Nodes between a step's state and what collects the steps' outputs."""
_OLDEST = 13
"""The opset from which Squeeze and Unsqueeze take their axes as an input."""


@dataclass(frozen=True)
class RollUpSteps(Pass):
    """T copies of h = a h + b, y = f(h), x[t], and Concat(y[0], ..., y[T - 1]), become one Scan of T steps.

    The steps must be equal node by node but for the index that each takes of what goes along (Gather, Slice or Split
    of one place). Time and memory are linear in the number of nodes.
    """

    name: ClassVar[str] = "roll-up-steps"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        graph = model.graph
        chains = find_chains(graph)
        fresh = FreshNames(model) if chains else None
        for chain in chains:
            site = str(chain.adds[0].outputs[0].name)
            assert fresh is not None
            if model.opset_imports.get("", 0) < _OLDEST:
                skipped.append(Skip(site, f"{len(chain.adds)} steps in an opset before {_OLDEST}"))
                continue
            try:
                _roll_up(graph, chain, fresh)
                matched.append(site)
            except StepsDiffer as reason:
                skipped.append(Skip(site, f"{len(chain.adds)} steps are not one: {reason}"))
        if matched:
            graph.sort()
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


@dataclass(slots=True)
class _Collected:
    """A Concat of what every step gives."""

    node: ir.Node
    inner: ir.Value
    axis: int
    backwards: bool


def _roll_up(graph: ir.Graph, chain: Chain, fresh: FreshNames) -> None:
    stem = str(chain.adds[0].outputs[0].name)
    like = chain.adds[-1].outputs[0]
    old = ir.Value(name=fresh(f"{stem}_before_step"), type=like.type, shape=like.shape)
    columns = Columns(chain.before, chain.after, old, fresh)
    try:
        _merge(graph, chain, columns, fresh)
    except StepsDiffer:
        detach(columns.nodes)
        raise


def _merge(graph: ir.Graph, chain: Chain, columns: Columns, fresh: FreshNames) -> None:
    new = columns.value_of(chain.after)
    assert new is not None
    collected = [_collect(columns, node, len(chain.adds)) for node in _collectors(chain)]
    outputs = [item for item in collected if item is not None]
    if not columns.sources:
        raise StepsDiffer("nothing goes along the steps")
    if not outputs:
        raise StepsDiffer("nothing collects what the steps give")
    _check_readers(chain, columns, {item.node for item in outputs})
    _write(graph, chain, columns, new, outputs, fresh)


def _collectors(chain: Chain) -> Iterator[ir.Node]:
    """Concats behind the first step's state, the next steps left out."""
    waiting, seen = [(chain.adds[0].outputs[0], _FARTHEST)], set[ir.Node]()
    later = set(chain.adds[1:])
    while waiting:
        value, left = waiting.pop()
        for use in value.uses():
            node = use.node
            if node in seen or node in later:
                continue
            seen.add(node)
            if node.op_type == "Concat" and len(node.inputs) >= len(chain.adds):
                yield node
            elif left and node.graph is chain.adds[0].graph:
                waiting += [(output, left - 1) for output in node.outputs]


def _collect(columns: Columns, node: ir.Node, count: int) -> _Collected | None:
    axis = node.attributes.get_int("axis", 0)
    dims = rank(node.outputs[0]) or rank(node.inputs[0])
    if len(node.inputs) != count or dims is None:
        raise StepsDiffer(f"a Concat collects {len(node.inputs)} values")
    axis %= dims
    for backwards in (False, True):
        column = list(node.inputs)[::-1] if backwards else list(node.inputs)
        inner_column = [_without_axis(value, axis, dims) for value in column]
        stacked = all(value is not None for value in inner_column)
        try:
            inner = columns.attempt(inner_column if stacked else column)
        except StepsDiffer:
            if backwards:
                raise
            continue
        if inner is None:
            return None
        if stacked:
            columns.merged.update(maker for value in column if value and (maker := value.producer()) is not None)
        else:
            inner = _squeezed(columns, inner, axis, column[0])
        return _Collected(node, inner, axis, backwards)
    return None


def _without_axis(value: ir.Value | None, axis: int, dims: int) -> ir.Value | None:
    """What Unsqueeze gave the axis along which the steps are joined."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Unsqueeze" or len(node.inputs) < 2:
        return None
    axes = constant_array(node.inputs[1])
    return node.inputs[0] if axes is not None and axes.size == 1 and int(axes.reshape(-1)[0]) % dims == axis else None


def _squeezed(columns: Columns, inner: ir.Value, axis: int, like: ir.Value | None) -> ir.Value:
    """Each step gives one place of the axis: the Scan stacks what is left."""
    size = None if like is None or like.shape is None else like.shape[axis]
    if size != 1:
        raise StepsDiffer("each step gives more than one place of what collects them")
    axes = ir.tensor(np.array([axis], np.int64), name=columns.fresh(f"{inner.name}_axis"))
    constant = ir.node("Constant", [], {"value": axes}, num_outputs=1, name=axes.name)
    constant.outputs[0].name = axes.name
    made = ir.node("Squeeze", [inner, constant.outputs[0]], num_outputs=1, name=columns.fresh(f"{inner.name}_given"))
    made.outputs[0].name, made.outputs[0].type = made.name, inner.type
    columns.nodes += [constant, made]
    return made.outputs[0]


def _check_readers(chain: Chain, columns: Columns, collectors: set[ir.Node]) -> None:
    """Nobody else may read what single steps compute, save the last state."""
    last = chain.adds[-1].outputs[0]
    for node in columns.merged:
        for value in node.outputs:
            foreign = any(use.node not in columns.merged and use.node not in collectors for use in value.uses())
            if value is not last and (foreign or value.is_graph_output()):
                raise StepsDiffer(f"{value.name} of one step is read elsewhere")


def _write(
    graph: ir.Graph, chain: Chain, columns: Columns, new: ir.Value, outputs: list[_Collected], fresh: FreshNames
) -> None:
    count, last = len(chain.adds), chain.adds[-1].outputs[0]
    make = Builder(graph, fresh, str(chain.adds[0].outputs[0].name))
    along = []
    for source in columns.sources:
        size = None if source.value.shape is None else source.value.shape[source.axis]
        whole = source.start == 0 and size == count
        bounds = (make.ints(source.start), make.ints(source.start + count), make.ints(source.axis))
        along.append(source.value if whole else make.op("Slice", source.value, *bounds))
    given, seen = [], {new}
    for item in outputs:
        if item.inner in seen or item.inner.producer() is None:
            copy = ir.node("Identity", [item.inner], num_outputs=1, name=fresh(f"{item.inner.name}_given"))
            copy.outputs[0].name, copy.outputs[0].type = copy.name, item.inner.type
            columns.nodes.append(copy)
            item.inner = copy.outputs[0]
        seen.add(item.inner)
        given.append(item.inner)
    body = ir.Graph([columns.old, *(source.inner for source in columns.sources)], [new, *given], nodes=columns.nodes,
                    name=fresh(f"{make.stem}_body"))  # fmt: skip
    attributes = {
        "body": ir.AttrGraph("body", body), "num_scan_inputs": ir.AttrInt64("num_scan_inputs", len(along)),
        "scan_input_axes": ir.AttrInt64s("scan_input_axes", [source.axis for source in columns.sources]),
        "scan_input_directions": ir.AttrInt64s("scan_input_directions", [int(s.backwards) for s in columns.sources]),
        "scan_output_axes": ir.AttrInt64s("scan_output_axes", [item.axis for item in outputs]),
        "scan_output_directions": ir.AttrInt64s("scan_output_directions", [int(item.backwards) for item in outputs]),
    }  # fmt: skip
    scan = ir.Node("", "Scan", [chain.first, *along], attributes, num_outputs=1 + len(outputs),
                   name=fresh(f"{make.stem}_scan"))  # fmt: skip
    make.nodes.append(scan)
    make.insert_before(chain.adds[0])
    for old, made in zip([last, *(item.node.outputs[0] for item in outputs)], scan.outputs, strict=True):
        made.type = old.type
        rename_to(old, made)
    graph.remove([*columns.merged, *(item.node for item in outputs)], safe=True)
