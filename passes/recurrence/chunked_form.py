"""Mamba-2's chunked matrix form (SSD), found by its running sums and judged by what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, constant_array, is_float
from qcompiler.passes.recurrence.observe import Array
from qcompiler.passes.recurrence.over_time import rank_of

_MOVES = LAYOUT_OPS | {"Cast", "Expand", "Pad", "Slice", "Gather", "CumSum", "Trilu"}
_CARRIES = LAYOUT_OPS | {"Cast", "Expand", "Pad"}
_LARGEST = 400
"""Nodes of one chunked form that are looked at."""
_MOST = 12
"""Tensors that may be x, B or C: others are the gate, the skip and norms behind the form."""
_FIRST = 6
"""Steps by which most candidates are told apart."""
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Region:
    """What lies behind a log decay z [B, T, H].

    Attributes:
        factors: The tensors [B, T, ...] that products of the region take, besides z.
        results: What it gives, as candidates for y, in graph order.
        chunk: Steps of a chunk.
    """

    decay: ir.Value
    factors: tuple[ir.Value, ...]
    results: tuple[ir.Value, ...]
    chunk: int

    @property
    def values(self) -> tuple[ir.Value, ...]:
        return (self.decay, *self.factors, *self.results)


@dataclass(frozen=True, slots=True)
class ChunkedForm:
    """y[t] = h[t] C[t], h[t] = exp(z[t]) h[t-1] + x[t] B[t]^T in one place of a model.

    Attributes:
        x, b, c: [B, T, H P], [B, T, G N], [B, T, G N], the last axes in any number.
        groups: G, by which B and C differ between heads.
        head, width: P and N.
        y: [B, T or more, H, P] or [B, T or more, H P]; further steps are zeros.
        filled_up: Whether y goes up to whole chunks.
        last: The last state [B, H, P, N], computed from the arrays seen.
    """

    decay: ir.Value
    x: ir.Value
    b: ir.Value
    c: ir.Value
    y: ir.Value
    heads: int
    groups: int
    head: int
    width: int
    chunk: int
    filled_up: bool
    last: Array


def find_regions(graph: ir.Graph) -> Iterator[Region]:
    """Places that may be the chunked form; each running sum is looked at once."""
    order = {node: place for place, node in enumerate(graph)}
    seen = set[ir.Value]()
    for node in graph:
        if node.op_type != "CumSum" or node.domain != "":
            continue
        decay = _behind_masks(node.inputs[0])
        sums = node.inputs[0]
        if decay is None or decay in seen or rank_of(decay) != 3 or sums is None or sums.shape is None:
            continue
        seen.add(decay)
        axis = constant_array(node.inputs[1])
        chunk = None if axis is None or axis.size != 1 else sums.shape[int(axis.reshape(-1)[0])]
        region = _region(decay, chunk, order) if isinstance(chunk, int) else None
        if region is not None:
            yield region


def _behind_masks(value: ir.Value | None) -> ir.Value | None:
    """In front of what moves or masks a running sum's operand."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "Where":
            parts = [item for item in node.inputs[1:] if constant_array(item) is None]
            value = parts[0] if len(parts) == 1 else None
        elif node.op_type == "Mul" and _is_mask(node):
            value = next(item for item in node.inputs if not _is_square(item))
        elif node.op_type in _MOVES:
            value = node.inputs[0]
        else:
            return value
    return None


def _is_mask(node: ir.Node) -> bool:
    return sum(_is_square(item) for item in node.inputs) == 1


def _is_square(value: ir.Value | None) -> bool:
    """A constant of zeros and ones between all steps of a chunk, or what Trilu makes of one."""
    node = None if value is None else value.producer()
    if node is not None and node.op_type == "Trilu":
        return True
    array = constant_array(value)
    return (
        array is not None and array.ndim >= 2 and array.shape[-1] == array.shape[-2] and set(np.unique(array)) <= {0, 1}
    )


def _region(decay: ir.Value, chunk: int, order: dict[ir.Node, int]) -> Region | None:
    inside, waiting, results = {decay}, [decay], list[ir.Value]()
    nodes = set[ir.Node]()
    while waiting and len(nodes) < _LARGEST:
        value = waiting.pop(0)
        for use in value.uses():
            if use.node in nodes or use.node not in order or not is_float(use.node.outputs[0]):
                continue
            if use.node.op_type in ("Sigmoid", "ReduceMean", "Pow") or _is_projection(use.node):
                continue  # behind the form
            nodes.add(use.node)
            inside.update(use.node.outputs)
            waiting.extend(use.node.outputs)
    factors = dict[ir.Value, None]()
    for node in nodes:
        for item in node.inputs:
            if item is None or item in inside or item.const_value is not None or not is_float(item):
                continue
            if item.dtype is not None and (found := _carried(item)) is not None:
                factors[found] = None
    results = [value for value in inside if rank_of(value) in (3, 4) and value is not decay]
    results.sort(key=lambda value: order[maker] if (maker := value.producer()) is not None else -1)
    return Region(decay, tuple(factors), tuple(results), chunk) if 3 <= len(factors) <= _MOST else None


def _is_projection(node: ir.Node) -> bool:
    return node.op_type in ("Gemm", "Conv") or (node.op_type == "MatMul" and constant_array(node.inputs[1]) is not None)


def _carried(value: ir.Value) -> ir.Value | None:
    """In front of what pads, repeats and moves; None for constants."""
    while (node := value.producer()) is not None and node.op_type in _CARRIES and node.inputs[0] is not None:
        value = node.inputs[0]
    if node is not None and node.op_type in ("ConstantOfShape", "Trilu"):
        return None
    return None if constant_array(value) is not None else value


def judge(region: Region, seen: dict[str, Array]) -> ChunkedForm | None:
    """The form that the arrays of one run fit; None where none does."""
    z = seen.get(str(region.decay.name))
    if z is None or z.ndim != 3 or (z > 0).any():
        return None
    batch, length, heads = z.shape
    arrays = {value: seen[str(value.name)] for value in region.factors if str(value.name) in seen}
    along = [value for value, array in arrays.items() if array.ndim >= 3 and array.shape[:2] == (batch, length)]
    for x, b, c in permutations(along, 3):
        wide = arrays[x].reshape(batch, length, -1)
        if wide.shape[2] % heads or arrays[b].size != arrays[c].size:
            continue
        flat = [arrays[value].reshape(batch, length, -1) for value in (b, c)]
        for groups in (count for count in range(1, heads + 1) if heads % count == 0 and flat[0].shape[2] % count == 0):
            y, _ = recurrence(*(item[:1, :_FIRST] for item in (z, wide, *flat)), groups=groups)
            likely = [value for value in reversed(region.results) if _begins(seen.get(str(value.name)), y, length)]
            if not likely:
                continue
            y, last = recurrence(z, wide, *flat, groups=groups)
            place = next((value for value in likely if _is_y(seen[str(value.name)], y)), None)
            if place is not None:
                width = flat[0].shape[2] // groups
                return ChunkedForm(region.decay, x, b, c, place, heads, groups, wide.shape[2] // heads, width,
                                   region.chunk, seen[str(place.name)].shape[1] > length, last)  # fmt: skip
    return None


def recurrence(z: Array, x: Array, b: Array, c: Array, *, groups: int) -> tuple[Array, Array]:
    """y [B, T, H, P] and the last state [B, H, P, N] in float64, step by step."""
    batch, length, heads = z.shape
    wide = x.astype(np.float64).reshape(batch, length, heads, -1)
    spread = [np.repeat(item.astype(np.float64).reshape(batch, length, groups, -1), heads // groups, axis=2)
              for item in (b, c)]  # fmt: skip
    state = np.zeros((batch, heads, wide.shape[3], spread[0].shape[3]))
    rows = []
    for step in range(length):
        outer = wide[:, step, :, :, None] * spread[0][:, step, :, None, :]
        state = np.exp(z[:, step].astype(np.float64))[..., None, None] * state + outer
        rows.append(np.einsum("bhpn,bhn->bhp", state, spread[1][:, step]))
    return np.stack(rows, axis=1), state


def _begins(array: Array | None, y: Array, length: int) -> bool:
    """Whether an array of all steps could be y, of which the first steps of one row are known."""
    return array is not None and array.ndim in (3, 4) and array.shape[1] >= length and _is_y(array[:1, : y.shape[1]], y)


def _is_y(array: Array, y: Array) -> bool:
    if array.ndim not in (3, 4) or array.shape[0] != y.shape[0] or array.shape[1] < y.shape[1]:
        return False
    if array.shape[2:] not in (y.shape[2:], (y.shape[2] * y.shape[3],)) or not np.isfinite(array).all():
        return False
    length, bound = y.shape[1], _TOLERANCE * float(np.abs(y).max())
    head = array[:, :length].reshape(y.shape)
    return bool(np.abs(head - y).max() <= bound and np.abs(array[:, length:]).max(initial=0.0) <= bound)
