"""Inputs for shifts, factors and offsets in a graph whose quantization can be switched (see `Trials`)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qcompiler.graph import FreshNames, make_node


def add_input(
    graph: ir.Graph, name: str, shape: Sequence[int | None], dtype: ir.DataType = ir.DataType.FLOAT
) -> ir.Value:
    """An input of the graph."""
    value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
    graph.inputs.append(value)
    return value


def surround(node: ir.Node, form: Sequence[int], mixed: bool, names: FreshNames) -> tuple[str, str]:
    """x -> Q -> DQ -> Where(.., x)   becomes   x - z -> / s -> Q -> DQ -> * s -> Where(.., x - z); names of z and s.

    Where `mixed`, z comes back behind the products that read x: as in the rewritten model it does not pass through
    probabilities, which on a coarse grid sum to anything but one.
    """
    value, graph = node.inputs[0], node.graph
    assert value is not None and isinstance(graph, ir.Graph)
    last = _pair_end(node)
    real, readers = last.outputs[0], last.outputs[0].consumers()
    free: list[int | None] = [None] * len(form)
    shift, factor = (add_input(graph, names(f"{value.name}/{word}"), free) for word in ("shift", "factor"))

    def made(op: str, left: ir.Value, right: ir.Value) -> ir.Node:
        output = names(f"{value.name}/{op.lower()}")
        return make_node(op, [left, right], output=output, dtype=value.dtype, shape=value.shape)

    moved = made("Sub", value, shift)
    scaled = made("Div", moved.outputs[0], factor)
    graph.insert_before(node, [moved, scaled])
    node.replace_input_with(0, scaled.outputs[0])
    back = made("Mul", real, factor)
    graph.insert_after(last, back)
    for where in readers:
        for index, read in enumerate(where.inputs):
            if read is real:
                where.replace_input_with(index, back.outputs[0])
            elif read is value:
                where.replace_input_with(index, moved.outputs[0])
        for product in where.outputs[0].consumers() if mixed else ():
            _add(product, shift, names)
    return str(shift.name), str(factor.name)


def free_zero_point(node: ir.Node, names: FreshNames) -> str:
    """Make the zero point of a QuantizeLinear, and of the DequantizeLinear behind it, an input; its name."""
    old, graph = node.inputs[2], node.graph
    assert old is not None and old.dtype is not None and isinstance(graph, ir.Graph)
    zero = add_input(graph, names(f"{node.name}/zero_point"), [], old.dtype)
    for end in (node, _pair_end(node)):
        end.replace_input_with(2, zero)
    return str(zero.name)


def _pair_end(node: ir.Node) -> ir.Node:
    """The DequantizeLinear of a pair that begins here; a Clip may lie between."""
    while node.op_type != "DequantizeLinear":
        node = node.outputs[0].consumers()[0]
    return node


def add_behind(node: ir.Node, form: Sequence[int], names: FreshNames) -> str:
    """node -> readers   becomes   node -> + offset -> readers; the name of the offset."""
    assert isinstance(node.graph, ir.Graph)
    free: list[int | None] = [None] * len(form)
    offset = add_input(node.graph, names(f"{node.name}/offset"), free)
    _add(node, offset, names)
    return str(offset.name)


def _add(node: ir.Node, offset: ir.Value, names: FreshNames) -> None:
    value, graph = node.outputs[0], node.graph
    assert isinstance(graph, ir.Graph)
    name, value.name = str(value.name), names(f"{value.name}/unmoved")
    label = names(f"{node.name}/moved")
    add = make_node("Add", [value, offset], output=name, dtype=value.dtype, shape=value.shape, name=label)
    value.replace_all_uses_with(add.outputs[0], replace_graph_outputs=True)
    add.replace_input_with(0, value)
    graph.insert_after(node, add)
