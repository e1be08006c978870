"""A linear recurrence computed for all steps at once, by whatever parallel algorithm, becomes a Scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, constant_array, is_float
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.passes.recurrence.in_step import without
from qcompiler.passes.recurrence.observe import Array, observe
from qcompiler.passes.recurrence.over_time import rank_of
from qcompiler.passes.recurrence.product_roles import product_roles
from qcompiler.passes.recurrence.recognise_recurrences import gate_roles
from qcompiler.passes.recurrence.roles import TensorRole, give_roles
from qcompiler.passes.recurrence.step_roles import factors_of
from qcompiler.pipeline import Outcome, Pass, Skip

_LARGEST = 4000
"""Nodes of one parallel scan that are looked at."""
_FEWEST = 7
"""Values of the smallest algorithm, running sums in log space."""
_TOLERANCE = 1e-4
"""Of the largest state: running sums and products of float32 in another order."""
_FOREIGN = frozenset({"Conv", "Gemm", "Softmax", "LayerNormalization", "Scan", "Loop", "If", "Einsum", "Attention"})


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
        found = [item for node in list(model.graph) if (item := _candidate(node)) is not None]
        if not found:
            return Outcome(False)
        seen = observe(model, dict.fromkeys(value for item in found for value in item.values))
        fresh, matched, skipped, modified = FreshNames(model), list[str](), list[Skip](), False
        outputs = [str(value.name) for value in model.graph.outputs]
        for item in found:
            (states, one, other), y, c = item.values, item.y, item.c
            site = str(states.name)
            arrays = [seen.get(str(value.name)) for value in (states, one, other)]
            axis = -1
            for z, b, places in ((one, other, (1, 2)), (other, one, (2, 1))):
                axis = _time_axis(arrays[0], arrays[places[0]], arrays[places[1]])
                if axis >= 0:
                    last = np.take(arrays[0], -1, axis)  # type: ignore[arg-type]
                    ends = [value for value, name in zip(model.graph.outputs, outputs, strict=True)
                            if name in seen and _equal(seen[name], last)]  # fmt: skip
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


@dataclass(frozen=True, slots=True)
class _Candidate:
    """States and the two products that they are made of; y and C."""

    values: tuple[ir.Value, ir.Value, ir.Value]
    y: ir.Value
    c: ir.Value | None


def _candidate(node: ir.Node) -> _Candidate | None:
    states = _summed(node)
    if states is None or states.shape is None or states.producer() is None:
        return None
    waiting, seen, leaves = [states], set[ir.Value](), dict[ir.Value, None]()
    while waiting:
        value = waiting.pop()
        if value in seen or value.const_value is not None or not _is_float(value):
            continue
        seen.add(value)
        maker = value.producer()
        if maker is None or len(seen) > _LARGEST:
            return None
        if value is not states and _is_spread(maker, len(states.shape)):
            leaves[value] = None
            if len(leaves) > 2:
                return None
            continue
        if maker.op_type in _FOREIGN or maker.domain != "" or _is_projection(maker):
            return None
        waiting += [item for item in maker.inputs if item is not None]
    places = list(leaves)
    if len(places) != 2 or len(seen) < _FEWEST:
        return None
    operands = node.inputs if node.op_type == "MatMul" else _factors(node.inputs[0])
    gates = [leaf for item in operands if item is not None and item is not states for leaf in factors_of(item)]
    return _Candidate((states, places[0], places[1]), node.outputs[0], gates[0] if len(gates) == 1 else None)


def _is_float(value: ir.Value) -> bool:
    return is_float(value) and value.dtype is not None


def _summed(node: ir.Node) -> ir.Value | None:
    """H of MatMul(H, C) with one column, or of ReduceSum(H * C) over the last axis."""
    if node.op_type == "MatMul" and node.domain == "":
        column = node.inputs[1]
        is_column = column is not None and column.shape is not None and len(column.shape) > 2 and column.shape[-1] == 1
        return node.inputs[0] if is_column else None
    product = node.inputs[0].producer() if node.op_type == "ReduceSum" and node.inputs[0] is not None else None
    dims = rank_of(node.inputs[0]) if product is not None else None
    axes = constant_array(node.inputs[1]) if product is not None and len(node.inputs) > 1 else None
    if product is None or product.op_type != "Mul" or axes is None or dims is None or axes.size != 1:
        return None
    if int(axes.reshape(-1)[0]) % dims != dims - 1:
        return None
    whole = [value for value in product.inputs if value is not None and value.shape is not None
             and len(value.shape) == dims and 1 not in list(value.shape)[-2:]]  # fmt: skip
    return whole[0] if len(whole) == 1 else None


def _is_spread(node: ir.Node, dims: int) -> bool:
    """A product of the states' sizes with a factor that is smaller."""
    output = node.outputs[0]
    if node.op_type != "Mul" or rank_of(output) != dims or 1 in list(output.shape or ())[-2:]:
        return False
    return any((rank_of(item) or 0) < dims or 1 in list(item.shape or ())[-2:] for item in node.inputs if item)


def _is_projection(node: ir.Node) -> bool:
    weight = constant_array(node.inputs[1]) if node.op_type == "MatMul" else None
    return weight is not None and weight.ndim == 2 and weight.shape[0] != weight.shape[1]


def _time_axis(states: Array | None, z: Array | None, b: Array | None) -> int:
    """The axis along which `states` is the recurrence of z and b; -1 where there is none."""
    if states is None or z is None or b is None or states.shape != z.shape or z.shape != b.shape:
        return -1
    for axis in range(states.ndim - 2):
        count = states.shape[axis]
        if count < 2 or z.max(initial=-1.0) > 0:
            continue
        h = np.zeros_like(np.take(b, 0, axis), dtype=np.float64)
        made = []
        for step in range(count):
            h = np.exp(np.take(z, step, axis).astype(np.float64)) * h + np.take(b, step, axis)
            made.append(h)
        if _equal(states, np.stack(made, axis)):
            return axis
    return -1


def _equal(one: Array, other: Array) -> bool:
    if one.shape != other.shape or not one.size or not np.isfinite(one).all():
        return False
    return bool(np.abs(one - other).max() <= _TOLERANCE * max(float(np.abs(other).max()), 1e-30))


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
    first = _zeros(make, b, axis, [item for value in (z, b) for item in _factors(value)])
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


def _factors(value: ir.Value | None) -> list[ir.Value]:
    node = None if value is None else value.producer()
    return [] if node is None else [item for item in node.inputs if item is not None]


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
