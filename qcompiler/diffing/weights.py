"""Section "weights": how many, how large, which changed and by how much; arrays are read one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.diffing.changes import Change, Level, Section
from qcompiler.diffing.constants import constant_of
from qcompiler.diffing.digest import shape_text
from qcompiler.diffing.matching import Matching
from qcompiler.diffing.operator_counts import every_node
from qcompiler.diffing.precision import Array, Grid, compute_slots, precision, type_name
from qcompiler.diffing.slots import paired_slots
from qcompiler.diffing.vertex import FLOATS, Edge, Vertex
from qcompiler.diffing.words import counted, few, number, size
from qcompiler.weight_file import forget_pages

_CHUNK = 1 << 22
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class _Pair:
    ours: Vertex
    theirs: Vertex
    slot: object
    their_slot: object
    edge: Edge
    other: Edge


def weights_section(matching: Matching) -> Section:
    """Constants of partners that are not equal."""
    changes: list[Change] = []
    casts: list[_Pair] = []
    seen: set[tuple[int, int]] = set()
    for pair in _unequal(matching):
        key = id(pair.edge.constant), id(pair.other.constant)
        if key in seen:
            continue
        seen.add(key)
        change = _compared(matching, pair, casts)
        if change is not None:
            changes.append(change)
    if casts:
        changes.append(_cast_change(casts))
    changes.sort(key=lambda item: (-item.level, -float(item.facts.get("relative_change") or 0)))
    totals = [_totals(side.model) for side in (matching.first, matching.second)]
    rows = tuple(
        (label, one, other)
        for label, one, other in (
            ("tensors", str(totals[0][0]), str(totals[1][0])), ("bytes", size(totals[0][1]), size(totals[1][1])),
        )
        if one != other
    )  # fmt: skip
    largest = max((float(item.facts.get("relative_change") or 0) for item in changes), default=0.0)
    facts = {"before": {"tensors": totals[0][0], "bytes": totals[0][1]},
             "after": {"tensors": totals[1][0], "bytes": totals[1][1]}, "largest_relative_change": largest}  # fmt: skip
    notes = () if rows else (f"{totals[0][0]} tensors, {size(totals[0][1])}, in both",)
    return Section("weights", tuple(changes), notes, facts, rows)


def _unequal(matching: Matching) -> list[_Pair]:
    found = []
    for ours, theirs in matching.pairs:
        for slot, other in paired_slots(matching, ours, theirs):
            edge, their_edge = ours.edges[slot], theirs.edges[other]
            if edge.constant is None or their_edge.constant is None:
                continue
            if matching.first.digest(edge.constant) != matching.second.digest(their_edge.constant):
                before = precision(matching.first, ours, slot, 0)
                after = precision(matching.second, theirs, other, 0)
                same_form = ours.form is theirs.form or not before.quantized
                if before.quantized == after.quantized and same_form:
                    found.append(_Pair(ours, theirs, slot, other, edge, their_edge))
    return found


def _compared(matching: Matching, pair: _Pair, casts: list[_Pair]) -> Change | None:
    one, other = pair.edge.constant, pair.other.constant
    assert one is not None
    assert other is not None
    name = f"{_name(pair.edge)} of {pair.ours.label}"
    if tuple(one.shape) != tuple(other.shape):
        return _operand_change(name, one, other)
    if one.dtype != other.dtype:
        if {one.dtype, other.dtype} <= FLOATS and pair.slot not in compute_slots(matching.first, pair.ours):
            casts.append(pair)
        return None  # another precision: the section on quantization has it
    state = precision(matching.first, pair.ours, pair.slot, 0)
    if one.dtype not in FLOATS and not state.quantized:
        return _operand_change(name, one, other)
    grids = (state.grids[-1:], precision(matching.second, pair.theirs, pair.their_slot, 0).grids[-1:])
    change, share = relative_change(one, other, *(next(iter(grid), None) for grid in grids))
    if not change:
        return None  # other codes of the same numbers
    words = f"{number(change)} of its largest magnitude"
    what = f"{name}: {shape_text(one)}, {share:.0%} of its elements changed, by up to {words}"
    facts = {"kind": "weight", "name": _name(pair.edge), "node": pair.ours.label, "quantized": state.quantized,
             "relative_change": float(f"{change:.6g}"), "changed_share": round(share, 6)}  # fmt: skip
    return Change(Level.WEIGHTS, what, 1, facts)


def relative_change(
    one: ir.TensorProtocol, other: ir.TensorProtocol, grid: Grid | None = None, other_grid: Grid | None = None
) -> tuple[float, float]:
    """max |after - before| / max |before|, and the share of stored elements that differ; in pieces, in float64.

    Args:
        grid: Of the first tensor where it holds codes: the numbers behind them are compared.
        other_grid: Of the second.
    """
    before, after = one.numpy(), other.numpy()
    top = most = 0.0
    differing = 0
    for at in _pieces(before):
        codes, others = before[at], after[at]
        piece, second = _real(codes, before, grid, at), _real(others, after, other_grid, at)
        moved = np.abs(second - piece)
        moved = np.where(np.isnan(moved), np.inf, moved)
        differing += int(np.count_nonzero(codes != others))
        most = max(most, float(moved.max(initial=0)))
        top = max(top, float(np.abs(piece).max(initial=0)))
    forget_pages(one)
    forget_pages(other)
    return (most / top if top else float(most > 0)), differing / max(before.size, 1)


def _pieces(array: Array) -> Iterator[Any]:
    """Slices along the leading axis of about _CHUNK elements."""
    if array.ndim == 0:
        yield ()
        return
    rows = max(1, _CHUNK // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        yield slice(start, start + rows)


def _real(codes: Array, whole: Array, grid: Grid | None, at: Any) -> Array:
    values = codes.astype(np.float64)
    if grid is None or grid.scale is None:
        return values
    for numbers, act in ((grid.zero, np.subtract), (grid.scale, np.multiply)):
        if numbers is None:
            continue
        factor = np.asarray(numbers, np.float64).reshape(-1)
        if factor.size > 1:
            axis = next((axis for axis, size in enumerate(whole.shape) if size == factor.size), None)
            if axis is None:  # blocks: codes stand for themselves
                return codes.astype(np.float64)
            factor = factor[at] if axis == 0 else factor
            factor = factor.reshape([-1 if place == axis else 1 for place in range(whole.ndim)])
        values = act(values, factor)
    return values


def _operand_change(name: str, one: ir.TensorProtocol, other: ir.TensorProtocol) -> Change:
    before, after = _shown(one), _shown(other)
    facts = {"kind": "operand", "name": name, "before": before, "after": after}
    return Change(Level.STRUCTURE, f"{name}: {before} -> {after}", 1, facts)


def _cast_change(casts: list[_Pair]) -> Change:
    words = counted(
        f"{type_name(item.edge.constant.dtype)} -> {type_name(item.other.constant.dtype)}"
        for item in casts
        if item.edge.constant is not None and item.other.constant is not None
    )
    names = [_name(item.edge) for item in casts]
    what = f"other constants {words} ({few(names)})"
    return Change(Level.PRECISION, what, len(casts), {"kind": "constant_type", "names": names})


def _shown(tensor: ir.TensorProtocol) -> str:
    if tensor.size <= _SHOWN:
        return str(tensor.numpy().tolist())
    return f"{type_name(tensor.dtype)} {shape_text(tensor)}"


def _name(edge: Edge) -> str:
    start = edge.links[0].inputs[0] if edge.links else edge.value
    return str(start.name if start is not None else edge.value.name)


def _totals(model: ir.Model) -> tuple[int, int]:
    """Tensors and bytes of all initializers and Constant nodes."""
    held = [value.const_value for graph in model.graphs() for value in graph.initializers.values()]
    held += [constant_of(node.outputs[0]) for node in every_node(model) if node.op_type == "Constant"]
    known = [tensor for tensor in held if tensor is not None]
    return len(known), sum(int(tensor.nbytes) for tensor in known)
