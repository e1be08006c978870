"""Pairs of models for a diff: what a re-export changes, and single edits."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from qcompiler.diffing.changes import Level
from qcompiler.diffing.compare import DiffOptions, compare_sides
from qcompiler.diffing.difference import Difference
from qcompiler.diffing.sides import Side


def diff(first: ir.Model, second: ir.Model, **options: object) -> Difference:
    """The difference of two models in memory."""
    given = DiffOptions(**options)  # type: ignore[arg-type]
    return compare_sides(Side("a.onnx", first), Side("b.onnx", second), given)


def lines(found: Difference, level: Level) -> list[str]:
    """What changed at one level."""
    return [change.what for change in found.changes if change.level is level]


def edited(model: ir.Model, edit: Callable[[onnx.GraphProto], None]) -> ir.Model:
    """A copy with its graph changed as a message."""
    proto = ir.to_proto(model)
    edit(proto.graph)
    return ir.from_proto(proto)


def renamed(model: ir.Model, seed: int = 0) -> ir.Model:
    """The same model with every inner name new and every list whose order means nothing shuffled."""
    proto = ir.to_proto(model)
    chance = random.Random(seed)
    kept = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    _rename_graph(proto.graph, {name: name for name in kept}, chance)
    for function in proto.functions:
        names: dict[str, str] = {}
        _rename_nodes(function.node, names, chance)
        function.input[:] = [names.setdefault(name, f"f{len(names)}") for name in function.input]
        function.output[:] = [names[name] for name in function.output]
    opsets = list(proto.opset_import)
    chance.shuffle(opsets)
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    return ir.from_proto(proto)


def _rename_graph(graph: onnx.GraphProto, names: dict[str, str], chance: random.Random) -> None:
    def new(name: str) -> str:
        return names.setdefault(name, f"v{chance.randrange(10**12)}") if name else ""

    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new(value.name)
    _rename_nodes(graph.node, names, chance)
    for group in (graph.initializer, graph.value_info):
        items = list(group)
        chance.shuffle(items)
        del group[:]
        group.extend(items)
    nodes = _shuffled(list(graph.node), chance)
    del graph.node[:]
    graph.node.extend(nodes)


def _rename_nodes(nodes: list[onnx.NodeProto], names: dict[str, str], chance: random.Random) -> None:
    def new(name: str) -> str:
        return names.setdefault(name, f"v{chance.randrange(10**12)}") if name else ""

    for node in nodes:
        node.name = f"n{chance.randrange(10**12)}"
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
    for node in nodes:
        attributes = list(node.attribute)
        chance.shuffle(attributes)
        for attribute in attributes:
            if attribute.HasField("g"):
                _rename_graph(attribute.g, names, chance)
        del node.attribute[:]
        node.attribute.extend(attributes)


def _shuffled(nodes: list[onnx.NodeProto], chance: random.Random) -> list[onnx.NodeProto]:
    """Another topological order."""
    made = {name for node in nodes for name in node.output}
    left, done, order = list(nodes), set[str](), list[onnx.NodeProto]()
    while left:
        ready = [node for node in left if not ((_reads(node) & made) - done)]
        node = chance.choice(ready)
        left.remove(node)
        done |= set(node.output)
        order.append(node)
    return order


def _reads(node: onnx.NodeProto) -> set[str]:
    found = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            found |= _reads(inner)
        found |= {value.name for value in attribute.g.output}
    return found


def scaled(name: str, factor: float) -> Callable[[onnx.GraphProto], None]:
    """An edit that multiplies one initializer."""

    def edit(graph: onnx.GraphProto) -> None:
        tensor = next(item for item in graph.initializer if item.name == name)
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(array * factor, array.dtype), name))

    return edit


def without_pair(reader: str, slot: int = 0) -> Callable[[onnx.GraphProto], None]:
    """An edit that lets a node read what stood before its QuantizeLinear and DequantizeLinear."""

    def edit(graph: onnx.GraphProto) -> None:
        makers = {name: node for node in graph.node for name in node.output}
        node = next(item for item in graph.node if item.name == reader)
        dequantize = makers[node.input[slot]]
        quantize = makers[dequantize.input[0]]
        assert (dequantize.op_type, quantize.op_type) == ("DequantizeLinear", "QuantizeLinear")
        node.input[slot] = quantize.input[0]
        read = {name for item in graph.node for name in item.input}
        for item in (dequantize, quantize):
            if not read & set(item.output):
                graph.node.remove(item)
                read = {name for left in graph.node for name in left.input}

    return edit
