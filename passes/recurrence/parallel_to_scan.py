"""A linear recurrence computed for all steps at once, by whatever parallel algorithm, becomes a Scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.passes.recurrence.in_step import without
from qcompiler.passes.recurrence.observe import observe
from qcompiler.passes.recurrence.over_time import rank_of
from qcompiler.passes.recurrence.parallel_form import equal, factors_of_node, find_candidate, time_axis
from qcompiler.passes.recurrence.product_roles import product_roles
from qcompiler.passes.recurrence.recognise_recurrences import gate_roles
from qcompiler.passes.recurrence.roles import TensorRole, give_roles
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class ParallelToScan(Pass):
    """H(z, b) with h[t] = exp(z[t]) h[t-1] + b[t] becomes Scan over z and b (Mamba-1's parallel scans).

    Sweeps up and down a tree (Blelloch, CMU-CS-90-190), doubling (Hillis and Steele), running sums in log space and
    blocks of any of them have nothing in common but what they compute. So the place is found by what reads H, the sum
    over the state with C, and by the broadcast products that z and b are, and the algorithm in between is judged by one
    run on seeded inputs against the recurrence. The guard of the compile proves it again on others.

    Attributes:
        rewrite: False gives roles and leaves the nodes.
    """

    name: ClassVar[str] = "parallel-to-scan"
    rewrite: bool = True

    def run(self, model: ir.Model) -> Outcome:
        found = [item for node in list(model.graph) if (item := find_candidate(node)) is not None]
        if not found:
            return Outcome(False)
        seen = observe(model, dict.fromkeys(value for item in found for value in item.values))
        fresh, matched, skipped, modified = FreshNames(model), list[str](), list[Skip](), False
        outputs = [str(value.name) for value in model.graph.outputs]
        for item in found:
            (states, one, other), y, c = item.values, item.y, item.c
            site = str(states.name)
            arrays = [seen.get(str(value.name)) for value in (states, one, other)]
            reached = arrays[0]
            axis = -1
            for z, b, places in ((one, other, (1, 2)), (other, one, (2, 1))):
                axis = time_axis(reached, arrays[places[0]], arrays[places[1]])
                if reached is not None and axis >= 0:
                    last = np.take(reached, -1, axis)
                    ends = [value for value, name in zip(model.graph.outputs, outputs, strict=True)
                            if name in seen and equal(seen[name], last)]  # fmt: skip
                    if self.rewrite:
                        _write(model.graph, states, z, b, axis, ends, fresh)
                    else:
                        roles = product_roles(z, b, None, c) | {TensorRole.OUTPUT: y, **gate_roles(y)}
                        modified |= give_roles(roles, site)
                    matched.append(site)
                    break
            if axis < 0:
                skipped.append(Skip(site, "what is computed for all steps at once is no linear recurrence"))
        if self.rewrite and matched:
            model.graph.sort()
        return Outcome(modified or (self.rewrite and bool(matched)), tuple(matched), tuple(skipped))


def _write(
    graph: ir.Graph, states: ir.Value, z: ir.Value, b: ir.Value, axis: int, ends: Sequence[ir.Value], fresh: FreshNames
) -> None:
    stem = str(states.name)
    for value in (z, b, states):  # exporters lose sizes on the way
        value.shape = _known_sizes(z, b, states)
    step = [_inner(fresh(f"{stem}_{name}"), b, axis) for name in ("state", "z", "b")]
    inside = [_node(fresh, stem, op, values) for op, values in _chain(step)]
    for spot, node in enumerate(inside):
        for place, item in enumerate(node.inputs):
            if item is None:
                node.replace_input_with(place, inside[spot - 1].outputs[0])
        node.outputs[0].type, node.outputs[0].shape = b.type, without(b.shape, axis)
    body = ir.Graph(step, [inside[2].outputs[0], inside[3].outputs[0]], nodes=inside, name=fresh(f"{stem}_body"))
    make = Builder(graph, fresh, stem)
    first = _zeros(make, b, axis, [item for value in (z, b) for item in factors_of_node(value)])
    scan = ir.Node("", "Scan", [first, z, b], {
        "body": ir.AttrGraph("body", body), "num_scan_inputs": ir.AttrInt64("num_scan_inputs", 2),
        "scan_input_axes": ir.AttrInt64s("scan_input_axes", [axis, axis]),
        "scan_output_axes": ir.AttrInt64s("scan_output_axes", [axis]),
    }, num_outputs=2, name=fresh(f"{stem}_scan"))  # fmt: skip
    make.nodes.append(scan)
    maker = states.producer()
    assert maker is not None
    last, made = scan.outputs
    last.name, last.type, last.shape = fresh(f"{stem}_last"), b.type, without(b.shape, axis)
    made.type = states.type
    make.insert_before(maker)
    rename_to(states, made)
    for end in ends:
        copy = ir.node("Identity", [last], num_outputs=1, name=fresh(f"{stem}_end"))
        graph.append(copy)
        copy.outputs[0].type = end.type
        rename_to(end, copy.outputs[0])


def _known_sizes(*values: ir.Value) -> ir.Shape:
    columns = zip(*(list(value.shape or ()) for value in values), strict=True)
    return ir.Shape([next((size for size in sizes if isinstance(size, int)), sizes[0]) for sizes in columns])


def _chain(step: Sequence[ir.Value]) -> Iterator[tuple[str, list[ir.Value | None]]]:
    """exp(z) h + b, twice given; None stands for the node before."""
    before, z, b = step
    yield "Exp", [z]
    yield "Mul", [None, before]
    yield "Add", [None, b]
    yield "Identity", [None]


def _node(fresh: FreshNames, stem: str, op: str, values: Sequence[ir.Value | None]) -> ir.Node:
    node = ir.node(op, values, num_outputs=1, name=fresh(f"{stem}_{op.lower()}"))
    node.outputs[0].name = node.name
    return node


def _inner(name: str, like: ir.Value, axis: int) -> ir.Value:
    return ir.Value(name=name, type=like.type, shape=without(like.shape, axis))


def _zeros(make: Builder, like: ir.Value, axis: int, factors: Sequence[ir.Value]) -> ir.Value:
    """Zeros of the value's shape without that axis; sizes that are unknown are read from what it is a product of.

    Read from the product itself they would keep it alive, which is to be computed step by step.
    """
    sizes = list(like.shape or ())
    parts = []
    for place, size in enumerate(sizes):
        if place == axis:
            continue
        if isinstance(size, int):
            parts.append(make.ints(size))
            continue
        whole = (item for item in factors if rank_of(item) == len(sizes) and item.shape and item.shape[place] != 1)
        parts.append(make.op("Shape", next(whole, like), start=place, end=place + 1, dtype=ir.DataType.INT64))
    kind = np.float32 if like.dtype is None else like.dtype.numpy()
    known = [size for place, size in enumerate(sizes) if place != axis and isinstance(size, int)]
    if len(known) == len(sizes) - 1:
        return make.constant(np.zeros(known, kind))
    shape = make.op("Concat", *parts, axis=0)
    made = make.op("ConstantOfShape", shape, dtype=like.dtype, value=ir.tensor(np.zeros(1, kind)))
    made.shape = without(like.shape, axis)
    return made
