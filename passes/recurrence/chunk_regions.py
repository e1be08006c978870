"""Where a model may hold Mamba-2's chunked matrix form: around running sums of log decays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, constant_array, is_float
from qcompiler.passes.recurrence.over_time import rank_of

_MOVES = LAYOUT_OPS | {"Cast", "Expand", "Pad", "Slice", "Gather", "CumSum", "Trilu"}
_CARRIES = LAYOUT_OPS | {"Cast", "Expand", "Pad"}
_LARGEST = 400
"""Nodes of one chunked form that are looked at."""
_MOST = 12
"""Tensors that may be x, B or C: others are the gate, the skip and norms behind the form."""


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
