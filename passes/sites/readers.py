"""Who reads the channels of a tensor: layers, and everything else, through operators that keep channels apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from qcompiler.graph import constant_array, is_constant, rank, sole_consumer
from qcompiler.passes.canonical.forms import Form, form_of
from qcompiler.passes.canonical.matching import other_operand, producer, reduction_axes
from qcompiler.passes.sites.records import Edge, Operand, Reader

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(slots=True)
class Readers:
    """What `find_readers` found; `refusal` is not empty where the channels could not be followed.

    Attributes:
        factored: Whether a factor stands in front of a reader: no shift passes then, and readers are given no bias.
    """

    layers: list[Reader] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    refusal: str = ""
    factored: bool = False


def find_readers(value: ir.Value, axis: int = -1, *, factors: bool = False) -> Readers:
    """Follow `value` to its readers.

    Through Identity, Cast, Reshape, Flatten, Squeeze, Unsqueeze, Transpose, and Split, Slice, Gather, GatherND,
    ReduceMean, GlobalAveragePool along other axes than that of the channels; through a Concat along such an axis if
    all its parts come from `value`, as where a window is rolled.

    Args:
        axis: Of the channels, counted from the end.
        factors: Whether to go through products with what is the same for all channels: a number, a mask of positions.
    """
    found = Readers()
    queue = [(value, axis)]
    behind_factors: set[ir.Value] = set()
    joins: dict[ir.Node, dict[int, int]] = {}
    while queue and not found.refusal:
        current, where = queue.pop(0)
        if current.is_graph_output():
            found.refusal = f"{current.name} is an output of the model"
        factored = current in behind_factors
        found.factored |= factored
        for use in current.uses():
            node, index = use.node, use.idx
            if factored:
                behind_factors.update(node.outputs)
            if node.graph is not value_graph(value):
                found.refusal = f"{current.name} is read inside the body of {node.op_type}"
            elif (layer := reader_of(node, index, where)) is not None:
                found.layers.append(replace(layer, bias=None) if factored else layer)
            elif index == 0 and (moved := axis_behind(node, where)) is not None:
                queue += [(output, moved) for output in node.outputs]
            elif factors and factored_operand(node, where) == index:
                behind_factors.update(node.outputs)
                queue.append((node.outputs[0], where))
            elif node.op_type == "Shape":
                continue
            elif node.op_type == "Concat" and node.domain == "":
                parts = joins.setdefault(node, {})
                parts[index] = where
                if len(parts) == len(node.inputs) and _is_joined(node, parts):
                    del joins[node]
                    queue.append((node.outputs[0], where))
            else:
                found.edges.append(Edge(node, index, where, _bias_beside(node, current)))
    found.edges += [Edge(node, index, where) for node, parts in joins.items() for index, where in parts.items()]
    return found


def factored_operand(node: ir.Node, axis: int) -> int | None:
    """Which operand of a Mul or Div is multiplied by the same number for all channels; None where none is."""
    if node.domain != "" or node.op_type not in ("Mul", "Div"):
        return None
    for index in (0, 1) if node.op_type == "Mul" else (0,):
        data, factor = node.inputs[index], node.inputs[1 - index]
        if not same_for_all_channels(data, axis) and same_for_all_channels(factor, axis):
            return index
    return None


def same_for_all_channels(value: ir.Value | None, axis: int) -> bool:
    """Whether a factor or mask does not tell channels apart."""
    return value is not None and value.shape is not None and (len(value.shape) < -axis or value.shape[axis] == 1)


def _is_joined(node: ir.Node, parts: Mapping[int, int]) -> bool:
    """Whether the channels lie at one place in all inputs of a Concat, which joins another axis."""
    dims = rank(node.outputs[0])
    places = set(parts.values())
    if dims is None or len(places) != 1:
        return False
    return places.pop() + dims != node.attributes.get_int("axis", 0) % dims


def value_graph(value: ir.Value) -> ir.Graph | ir.Function | None:
    """The graph that computes the value."""
    node = value.producer()
    return node.graph if node is not None else None


def reader_of(node: ir.Node, index: int, axis: int) -> Reader | None:
    """The node as a layer that reads the channels at `axis` of its input `index`; None where it is none."""
    if node.domain != "" or index != 0 or len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    if not is_constant(weight) or weight is None or weight.const_value is None or weight.dtype not in _FLOATS:
        return None
    dims = len(weight.const_value.shape)
    if node.op_type == "MatMul" and axis == -1 and dims == 2:
        return Reader(Operand(node, 1, 0), 1, _added_bias(node, weight.const_value.shape.numpy()[1]))
    if node.op_type == "Gemm" and axis == -1 and not node.attributes.get_int("transA", 0):
        transposed = node.attributes.get_int("transB", 0)
        scaled = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
        bias = Operand(node, 2) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if scaled != (1.0, 1.0) or (bias is not None and not _is_vector(bias.value)):
            return None
        return Reader(Operand(node, 1, 1 if transposed else 0), 0 if transposed else 1, bias)
    if node.op_type == "Conv" and dims + axis == 1 and node.attributes.get_int("group", 1) == 1:
        plain = all(size == 1 for size in weight.const_value.shape.numpy()[2:])
        pads = node.attributes.get("pads")
        bias = Operand(node, 2) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if plain and (pads is None or not any(pads.value)) and (bias is None or _is_vector(bias.value)):
            return Reader(Operand(node, 1, 1), 0, bias)
    return None


def _added_bias(node: ir.Node, outputs: int) -> Operand | None:
    """The constant that the only consumer of a MatMul adds to its channels."""
    add = sole_consumer(node.outputs[0])
    if add is None or add.op_type != "Add":
        return None
    bias = other_operand(add, node.outputs[0])
    array = constant_array(bias)
    if bias is None or array is None or bias.const_value is None or array.shape[-1:] != (outputs,):
        return None
    return Operand(add, 1 if add.inputs[1] is bias else 0, -1) if array.size == outputs else None


def _is_vector(value: ir.Value) -> bool:
    array = constant_array(value)
    return array is not None and value.const_value is not None and array.ndim == 1


def _bias_beside(node: ir.Node, value: ir.Value) -> Operand | None:
    """Of layer(..) + bias + value, the bias, if nobody else reads what it is added to."""
    if node.op_type != "Add":
        return None
    biased = producer(other_operand(node, value), "Add", "Gemm")
    if biased is not None and form_of(biased) is Form.SPLIT and sole_consumer(biased.outputs[0]) is node:
        node, biased = biased, producer(biased.inputs[0], "Add", "Gemm")  # hidden units that are added apart
    if biased is None or sole_consumer(biased.outputs[0]) is not node:
        return None
    if biased.op_type == "Gemm":
        layer = reader_of(biased, 0, -1)
        return layer.bias if layer is not None else None
    for data in biased.inputs:
        layer_node = producer(data, "MatMul")
        layer = reader_of(layer_node, 0, -1) if layer_node is not None else None
        if layer is not None and layer.bias is not None and layer.bias.node is biased:
            return layer.bias
    return None


def axis_behind(node: ir.Node, axis: int) -> int | None:
    """Where the channels lie behind an operator that keeps them apart, from the end; None where it mixes them."""
    before, after = node.inputs[0], node.outputs[0]
    dims, new_dims = rank(before), rank(after)
    if node.domain != "" or dims is None or new_dims is None or before is None or dims + axis < 0:
        return None
    place = dims + axis
    if node.op_type == "Identity" or (node.op_type == "Cast" and after.dtype in _FLOATS):
        return axis
    if node.op_type == "Transpose":
        held = node.attributes.get("perm")
        order = list(held.value) if held is not None else list(range(dims))[::-1]
        return order.index(place) - dims
    if node.op_type == "Split":
        return axis if node.attributes.get_int("axis", 0) % dims != place else None
    if node.op_type == "Slice":
        sliced = _sliced_axes(node, dims)
        return axis if sliced is not None and place not in sliced else None
    if node.op_type == "Gather":
        taken = node.attributes.get_int("axis", 0) % dims
        if taken == place:
            return None
        return place + (new_dims - dims if taken < place else 0) - new_dims
    if node.op_type == "GatherND":
        picked = node.inputs[1].shape[-1] if node.inputs[1] is not None and node.inputs[1].shape else None
        known = isinstance(picked, int) and node.attributes.get_int("batch_dims", 0) + picked <= place
        return axis if known else None
    if node.op_type == "ReduceMean":
        axes = reduction_axes(node)
        if axes is None or place in (reduced := {item % dims for item in axes}):
            return None
        return place - sum(item < place for item in reduced) * (new_dims != dims) - new_dims
    if node.op_type == "GlobalAveragePool":
        return axis if place == 1 else None
    if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return _axis_reshaped(before, after, place)
    return None


def _axis_reshaped(before: ir.Value, after: ir.Value, place: int) -> int | None:
    """The last axis stays one where its size does; an inner axis where all sizes in front of it do, or where as many
    elements lie behind it as before."""
    if before.shape is None or after.shape is None:
        return None
    old, new = list(before.shape), list(after.shape)
    if not isinstance(old[place], int):
        return None
    if place == len(old) - 1 and new and new[-1] == old[-1]:
        return -1
    front = old[: place + 1]
    known = all(isinstance(size, int) or size.value is not None for size in front)
    if known and new[: place + 1] == front:
        return place - len(new)
    behind = _product(old[place + 1 :])
    if behind is None or old[place] == 1:
        return None
    fits = (at for at, size in enumerate(new) if size == old[place] and _product(new[at + 1 :]) == behind)
    return next((at - len(new) for at in fits), None)


def _product(sizes: Sequence[int | ir.SymbolicDim]) -> int | None:
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None


def _sliced_axes(node: ir.Node, dims: int) -> set[int] | None:
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = constant_array(node.inputs[3])
        return None if axes is None else {int(axis) % dims for axis in axes.reshape(-1)}
    starts = node.inputs[1].shape if node.inputs[1] is not None else None
    return set(range(int(starts[0]))) if starts is not None and isinstance(starts[0], int) else None
