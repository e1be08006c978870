"""A tensor read as a list of elements, row by row, is a Reshape and a Gather of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node, scalar_constant
from qcompiler.passes.canonical.matching import producer, replace_with, with_scalar
from qcompiler.pipeline import Outcome, Pass

Array = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

_MOST_TERMS = 12
"""One for each axis, and the offset; sums of sums of one value could have any number."""


@dataclass(frozen=True)
class PlainStrides(Pass):
    """Gather(Reshape(x, [-1]), size * rows + places)   becomes   Gather(Reshape(x, [-1, ..]), rows), or a Slice where
    the number of rows is constant.

    torch's dynamo exporter writes as_strided so, which stands behind AdaptiveAvgPool1d (Swin's mean over tokens):
    rows counts 0, 1, .. along the first axis, places counts 0 .. size along all others.
    """

    name: ClassVar[str] = "plain-strides"

    def run(self, model: ir.Model) -> Outcome:
        names, matched = FreshNames(model), []
        for node in list(model.graph.all_nodes()):
            if node.op_type != "Gather" or node.domain != "" or node.attributes.get_int("axis", 0) != 0:
                continue
            flat = producer(node.inputs[0], "Reshape")
            target = constant_array(flat.inputs[1]) if flat is not None else None
            if flat is None or flat.graph is not node.graph or target is None or target.tolist() != [-1]:
                continue
            found = _rows(node.inputs[1])
            if found is not None:
                _replace(model, node, flat.inputs[0], *found, names)
                matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched))


def _rows(index: ir.Value | None) -> tuple[ir.Value | int, list[int]] | None:
    """The rows 0, 1, .. that the index counts, a value or their number, and the sizes behind; None where it is no such
    index."""
    constants: list[Array] = []
    counted: list[ir.Value] = []
    for count, term in enumerate(_terms(index)):
        if count == _MOST_TERMS:
            return None
        array = constant_array(term)
        counted += [term] if array is None else []
        constants += [array] if array is not None else []
    if index is None or not constants or len(counted) > 1 or any(array.dtype.kind != "i" for array in constants):
        return None
    places = np.asarray(sum(constants[1:], constants[0]))
    if places.ndim < 2 or not np.array_equal(places.reshape(-1), np.arange(places.size)):
        return None
    sizes = [int(size) for size in places.shape[1:]]
    if not counted:
        return int(places.shape[0]), sizes
    rows = _counted(counted[0], places.size, places.ndim)
    return (rows, sizes) if rows is not None and places.shape[0] == 1 else None


def _terms(value: ir.Value | None) -> Iterator[ir.Value]:
    waiting = [value]
    while waiting:
        current = waiting.pop()
        add = producer(current, "Add") if constant_array(current) is None else None
        if add is not None:
            waiting += add.inputs
        elif current is not None:
            yield current


def _counted(value: ir.Value, size: int, dims: int) -> ir.Value | None:
    """Range(0, n, 1) of its product with the size, which has all further axes of length 1."""
    if value.shape is None or len(value.shape) != dims or any(length != 1 for length in list(value.shape)[1:]):
        return None
    factor, current = 1.0, value
    while (node := producer(current, "Unsqueeze", "Mul")) is not None:
        split = with_scalar(node) if node.op_type == "Mul" else (node.inputs[0], 1.0)
        if split is None or split[0] is None:
            return None
        current, factor = split[0], factor * split[1]
    counted = producer(current, "Range")
    if counted is None or factor != size or [scalar_constant(counted.inputs[at]) for at in (0, 2)] != [0, 1]:
        return None
    return counted.outputs[0]


def _replace(
    model: ir.Model, node: ir.Node, data: ir.Value | None, rows: ir.Value | int, sizes: list[int], names: FreshNames
) -> None:
    old, graph = node.outputs[0], node.graph
    assert isinstance(graph, ir.Graph)

    def constant(numbers: list[int], name: str) -> ir.Value:
        return add_initializer(model.graph, np.array(numbers, np.int64), names(f"{old.name}_{name}"))

    shaped = make_node("Reshape", [data, constant([-1, *sizes], "shape")], output=names(f"{old.name}_rows"),
                       dtype=old.dtype, shape=ir.Shape([None, *sizes]))  # fmt: skip
    inputs: list[ir.Value | None] = [shaped.outputs[0]]
    if isinstance(rows, int):
        zero = constant([0], "first")
        last = ir.node("Slice", [*inputs, zero, constant([rows], "end"), zero], name=node.name)
    else:
        last = ir.node("Gather", [*inputs, rows], {"axis": 0}, name=node.name)
    graph.insert_before(node, shaped)
    replace_with(old, last, [node])
