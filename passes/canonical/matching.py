"""Small questions that the recognisers share."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from qcompiler.graph import constant_array, rank, scalar_constant, sole_consumer


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that computes the value, if it is standard and of one of these types (any where none is given)."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain == "" and (not op_types or node.op_type in op_types) else None


def behind_casts(value: ir.Value | None) -> ir.Value | None:
    """The value before Casts between float types."""
    while (cast := producer(value, "Cast")) is not None:
        value = cast.inputs[0]
    return value


def with_scalar(node: ir.Node) -> tuple[ir.Value, float] | None:
    """(x, c) of a node of two operands, one of them a constant with a single element."""
    if len(node.inputs) != 2:
        return None
    for data, other in (node.inputs, node.inputs[::-1]):
        number = scalar_constant(other)
        if data is not None and number is not None:
            return data, number
    return None


def other_operand(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The operand of a binary node that is not `value`."""
    if len(node.inputs) != 2:
        return None
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def next_through_casts(value: ir.Value, path: list[ir.Node]) -> ir.Node | None:
    """The only consumer, looking through Casts; the Casts are added to `path`."""
    node = sole_consumer(value)
    casts: list[ir.Node] = []
    while node is not None and node.op_type == "Cast":
        casts.append(node)
        node = sole_consumer(node.outputs[0])
    if node is not None:
        path.extend(casts)
    return node


def reduction_axes(node: ir.Node) -> tuple[int, ...] | None:
    """Axes of a reduction, negative where counted from the end; None where they are computed or the rank is unknown."""
    held = node.attributes.get("axes")
    if held is not None:
        axes = [int(axis) for axis in held.value]
    else:
        array = constant_array(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if array is None:
            return None
        axes = [int(axis) for axis in array.reshape(-1)]
    dims = rank(node.inputs[0])
    if dims is None:
        return tuple(sorted(axes)) if all(axis < 0 for axis in axes) else None
    return tuple(sorted(axis - dims if axis >= 0 else axis for axis in axes))


def leaks(inner: Iterable[ir.Node], result: ir.Value) -> ir.Value | None:
    """A value computed inside that somebody outside reads, other than the result."""
    nodes = list(inner)
    inside = {id(node) for node in nodes}
    for node in nodes:
        for value in node.outputs:
            if value is result:
                continue
            if value.is_graph_output() or any(id(use.node) not in inside for use in value.uses()):
                return value
    return None


def is_activation(value: ir.Value | None) -> bool:
    """Whether the value depends on the model's inputs, as far as its producer tells."""
    return value is not None and constant_array(value) is None


def replace_with(old: ir.Value, node: ir.Node, inner: Iterable[ir.Node]) -> None:
    """Put `node` where `old` was computed; its output takes the name, and the inner nodes go."""
    anchor = old.producer()
    if anchor is None or anchor.graph is None:
        raise ValueError("the replaced value has no producer")
    graph, new = anchor.graph, node.outputs[0]
    new.type, new.shape = old.type, old.shape
    graph.insert_after(anchor, node)
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(list(inner), safe=True)
    old.name = None
    new.name = name
