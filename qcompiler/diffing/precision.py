"""In which type, and with which scale, a vertex reads each of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.diffing.constants import constant_of
from qcompiler.diffing.families import LAYOUT, WEIGHTED
from qcompiler.diffing.skeleton import Skeleton
from qcompiler.diffing.vertex import FLOATS, INPUT, Edge, Vertex

Array = np.ndarray[Any, Any]
_NAMES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The numbers of one QuantizeLinear or DequantizeLinear, or of an operator on codes."""

    scale: Array | None
    zero: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Precision:
    """How real numbers reach a vertex.

    Attributes:
        type: Of the codes where quantized, else of the numbers; "" where unknown.
        axis: Of the channels that have scales of their own; None per tensor.
        grids: Of all links on the way, the last one next to the reader.
    """

    type: str
    quantized: bool
    axis: int | None = None
    grids: tuple[Grid, ...] = ()

    @property
    def word(self) -> str:
        """`int8`, `int8[axis 0]`, `float16`."""
        return self.type if self.axis is None else f"{self.type}[axis {self.axis}]"


def type_name(dtype: ir.DataType | None) -> str:
    """`float32`, `int8`; "" for None."""
    return "" if dtype is None else _NAMES.get(dtype.name.lower(), dtype.name.lower())


def precision(skeleton: Skeleton, vertex: Vertex, slot: object, depth: int = 8) -> Precision:
    """What `vertex` reads at `slot`; layout operators in between are looked through."""
    edge = vertex.edges[slot]
    if vertex.form is not None and isinstance(slot, int) and vertex.node is not None:
        return _of_codes(skeleton, vertex, slot, edge)
    for position in range(len(edge.links) - 1, -1, -1):
        link = edge.links[position]
        if link.op_type == "DequantizeLinear":
            codes = skeleton.type_of(link.inputs[0]) or _zero_type(link)
            grid = _grid(link, 1, 2)
            return Precision(type_name(codes), True, _axis(link, grid), _grids(edge.links))
        if link.op_type == "QuantizeLinear":
            codes = _zero_type(link) or skeleton.type_of(link.outputs[0])
            return Precision(type_name(codes), True, _axis(link, _grid(link, 1, 2)), _grids(edge.links))
    source = None if edge.source is None else skeleton.vertices[edge.source]
    if source is not None and source.family in LAYOUT and 0 in source.edges and depth:
        behind = precision(skeleton, source, 0, depth - 1)
        if behind.quantized:
            return behind
    return Precision(type_name(skeleton.type_of(edge.value)), False)


def compute_slots(skeleton: Skeleton, vertex: Vertex) -> tuple[object, ...]:
    """Inputs whose precision decides in which kernel the vertex runs."""
    if vertex.family in WEIGHTED:
        return tuple(slot for slot in (0, 1) if slot in vertex.edges)
    if vertex.family == INPUT:
        return ()
    return tuple(
        slot
        for slot, edge in vertex.edges.items()
        if edge.source is not None and isinstance(slot, int) and _carries_numbers(skeleton, edge)
    )


def is_integer(skeleton: Skeleton, vertex: Vertex) -> bool:
    """Whether all that decides its kernel is quantized."""
    slots = compute_slots(skeleton, vertex)
    return bool(slots) and all(precision(skeleton, vertex, slot).quantized for slot in slots)


def link_names(edge: Edge) -> tuple[str, ...]:
    """Operators of the links that are no part of a quantization: Cast and Identity."""
    return tuple(link.op_type for link in edge.links if link.op_type in ("Cast", "Identity"))


def _carries_numbers(skeleton: Skeleton, edge: Edge) -> bool:
    return bool(edge.links) or skeleton.type_of(edge.value) in (*FLOATS, None)


def _of_codes(skeleton: Skeleton, vertex: Vertex, slot: int, edge: Edge) -> Precision:
    assert vertex.node is not None
    assert vertex.form is not None
    place = next(place for place, family in vertex.form.data.items() if family == slot)
    if slot not in vertex.form.grids:
        return Precision(type_name(skeleton.type_of(vertex.node.inputs[place])), False)
    grid = _grid(vertex.node, *vertex.form.grids[slot])
    zero = vertex.form.grids[slot][1]
    dtype = skeleton.type_of(edge.value) or (_type_at(skeleton, vertex.node, zero) if zero is not None else None)
    before = _grids(edge.links)
    grids = before if grid.scale is None and before else (*before, grid)
    sizes = max((item.scale.size for item in grids if item.scale is not None), default=1)
    axis = None if sizes == 1 else (0 if vertex.family == "Conv" else 1)
    return Precision(type_name(dtype), True, axis, grids)


def _grids(links: tuple[ir.Node, ...]) -> tuple[Grid, ...]:
    return tuple(_grid(link, 1, 2) for link in links if link.op_type in ("QuantizeLinear", "DequantizeLinear"))


def _grid(node: ir.Node, scale: int | None, zero: int | None) -> Grid:
    return Grid(_array(node, scale), _array(node, zero))


def _array(node: ir.Node, place: int | None) -> Array | None:
    value = node.inputs[place] if place is not None and place < len(node.inputs) else None
    tensor = None if value is None else constant_of(value)
    return None if tensor is None else tensor.numpy()


def _axis(link: ir.Node, grid: Grid) -> int | None:
    return link.attributes.get_int("axis", 1) if grid.scale is not None and grid.scale.size > 1 else None


def _zero_type(link: ir.Node) -> ir.DataType | None:
    value = link.inputs[2] if len(link.inputs) > 2 else None
    tensor = None if value is None else constant_of(value)
    return None if tensor is None else tensor.dtype


def _type_at(skeleton: Skeleton, node: ir.Node, place: int) -> ir.DataType | None:
    return skeleton.type_of(node.inputs[place]) if place < len(node.inputs) else None
