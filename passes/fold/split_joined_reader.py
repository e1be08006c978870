"""A layer that reads parts of one norm's output side by side becomes a layer for each part."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node, rank, sole_consumer
from qcompiler.passes.canonical.forms import NORM_FORMS, form_of
from qcompiler.passes.canonical.matching import producer, replace_with
from qcompiler.passes.sites.readers import axis_behind, reader_of
from qcompiler.passes.sites.records import Reader
from qcompiler.pipeline import Outcome, Pass

_MAX_STEPS = 12


@dataclass(frozen=True)
class SplitJoinedReader(Pass):
    """Concat(a, b) W + c   becomes   (a W_a + c) + (b W_b + 0), where a and b are taken from what one norm gives.

    So DINOv2's head reads the class token beside the mean of the patches. The channels of the norm then lie where its
    other readers have them, and it can be equalized, and the stream that it reads rotated. One Add more of the size of
    the layer's output.
    """

    name: ClassVar[str] = "split-joined-reader"

    def run(self, model: ir.Model) -> Outcome:
        names = FreshNames(model)
        matched: list[str] = []
        for concat in list(model.graph):
            if concat.op_type != "Concat" or concat.domain != "" or len(concat.inputs) < 2:
                continue
            node = sole_consumer(concat.outputs[0])
            layer = reader_of(node, 0, -1) if node is not None and node.inputs[0] is concat.outputs[0] else None
            sizes = _sizes(concat)
            if node is None or layer is None or form_of(node) is not None or sizes is None or not _of_one_norm(concat):
                continue
            _split(concat, node, layer, sizes, names)
            matched.append(node.name or "")
        return Outcome(bool(matched), tuple(matched))


def _sizes(concat: ir.Node) -> list[int] | None:
    """Channels of each part, if the last axis is joined and all are known."""
    dims = rank(concat.outputs[0])
    if not dims or concat.attributes.get_int("axis", 0) % dims != dims - 1:
        return None
    sizes = [value.shape[-1] if value is not None and value.shape is not None else None for value in concat.inputs]
    known = [size for size in sizes if isinstance(size, int)]
    return known if len(known) == len(sizes) else None


def _of_one_norm(concat: ir.Node) -> bool:
    above = [_norm_above(value) for value in concat.inputs]
    return above[0] is not None and all(value is above[0] for value in above)


def _norm_above(value: ir.Value | None) -> ir.Value | None:
    """What the norm gives whose channels the value has, last as there."""
    for _ in range(_MAX_STEPS):
        node = producer(value)
        if node is None:
            return None
        if form_of(node) in NORM_FORMS:
            return value
        if node.op_type == "Concat" or not node.inputs or axis_behind(node, -1) != -1:
            return None
        value = node.inputs[0]
    return None


def _split(concat: ir.Node, node: ir.Node, layer: Reader, sizes: list[int], names: FreshNames) -> None:
    graph, old, weight = node.graph, node.outputs[0], constant_array(layer.weight.value)
    assert isinstance(graph, ir.Graph) and weight is not None
    bias = layer.bias if layer.bias is not None and layer.bias.node is node else None
    total: ir.Value | None = None
    places = list(accumulate(sizes, initial=0))
    for place, (data, first, end) in enumerate(zip(concat.inputs, places[:-1], places[1:], strict=True)):
        part = np.ascontiguousarray(np.take(weight, range(first, end), axis=layer.weight.axis))
        inputs: list[ir.Value | None] = [data, add_initializer(graph, part, names(f"{layer.weight.value.name}_part"))]
        if bias is not None:
            inputs.append(bias.value if place == 0 else _zeros(graph, bias.value, names))
        made = make_node(node.op_type, inputs, dict(node.attributes), output=names(f"{old.name}_part"), dtype=old.dtype,
                         shape=old.shape, name=names(f"{node.name}_part"))  # fmt: skip
        graph.insert_before(node, made)
        if total is None:
            total = made.outputs[0]
        elif place < len(sizes) - 1:
            add = make_node("Add", [total, made.outputs[0]], output=names(f"{old.name}_sum"), dtype=old.dtype,
                            shape=old.shape)  # fmt: skip
            graph.insert_before(node, add)
            total = add.outputs[0]
        else:
            replace_with(old, ir.node("Add", [total, made.outputs[0]], name=node.name), [concat, node])


def _zeros(graph: ir.Graph, bias: ir.Value, names: FreshNames) -> ir.Value:
    array = constant_array(bias)
    assert array is not None
    return add_initializer(graph, np.zeros_like(array), names(f"{bias.name}_zero"))
