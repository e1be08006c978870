"""Layer to layer: channels that pass from one layer to the next without being mixed."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.graph import constant_array, is_constant, sole_consumer
from qcompiler.passes.canonical.forms import ACTIVATION_FORMS, Role, form_of, role_of
from qcompiler.passes.canonical.matching import behind_casts, other_operand, producer
from qcompiler.passes.sites.readers import find_readers, reader_of
from qcompiler.passes.sites.records import Channels, Kind, Operand, Refusal, Site

_SWAP_HEADS = [0, 2, 1, 3]


def value_sites(model: ir.Model) -> list[Site | Refusal]:
    """Value projection to output projection, through the heads of each attention.

    Values are mixed over positions with weights that sum to 1, so that a scale and a shift of a channel pass through.
    Heads of grouped queries share the channels of their group.
    """
    return [_value_site(node) for node in model.graph if role_of(node) is Role.PV]


def _value_site(product: ir.Node) -> Site | Refusal:
    def refuse(reason: str) -> Refusal:
        return Refusal(Kind.VALUE, str(product.name), reason)

    value = product.inputs[1]
    head = value.shape[-1] if value is not None and value.shape is not None and len(value.shape) == 4 else None
    if value is None or not isinstance(head, int):
        return refuse("the values are not [batch, heads, positions, size] with a known size")
    node, repeated = producer(value), False
    if node is not None and node.op_type == "Reshape" and role_of(node.inputs[0].producer()) is Role.REPEAT:  # type: ignore[union-attr, arg-type]
        expand = producer(node.inputs[0], "Expand")
        wide = producer(expand.inputs[0], "Unsqueeze") if expand is not None else None
        axes = constant_array(wide.inputs[1]) if wide is not None else None
        if wide is None or axes is None or axes.reshape(-1).tolist() != [2]:
            return refuse("heads are repeated in a way that is not followed")
        node, repeated = producer(wide.inputs[0]), True
    if node is None or node.op_type != "Transpose" or list(node.attributes["perm"].value) != _SWAP_HEADS:
        return refuse("the values do not come from a layer whose channels are split into heads")
    split = producer(node.inputs[0], "Reshape")
    made = _layer_made(split.inputs[0]) if split is not None else None
    if split is None or made is None or len(split.inputs[0].shape or ()) != 3:  # type: ignore[union-attr]
        return refuse("the values do not come from a layer of their own")
    weight, bias, sources = made
    back = sole_consumer(product.outputs[0])
    joined = sole_consumer(back.outputs[0]) if back is not None else None
    if (
        back is None or back.op_type != "Transpose" or list(back.attributes["perm"].value) != _SWAP_HEADS
        or joined is None or joined.op_type != "Reshape" or sole_consumer(split.outputs[0]) is not node
        or sole_consumer(split.inputs[0]) is not split or sole_consumer(node.outputs[0]) is None  # type: ignore[arg-type]
    ):  # fmt: skip
        return refuse("the heads are not joined behind the product, or values are read elsewhere")
    found = find_readers(joined.outputs[0])
    if found.refusal or not found.layers or found.edges:
        return refuse(found.refusal or "no layer alone reads the joined heads")
    channels = found.layers[0].weight.value.shape[found.layers[0].weight.axis]  # type: ignore[index]
    if not isinstance(channels, int) or channels % sources or sources % head or (channels != sources and not repeated):
        return refuse(f"{sources} channels of values for {channels} of the output projection")
    probabilities = behind_casts(product.inputs[0])
    whole = producer(probabilities, "Softmax") is not None
    mapping = None if channels == sources else _grouped(channels, sources, head)
    return Site(Kind.VALUE, joined.outputs[0], channels, (weight,), bias, tuple(found.layers),
                bias_node=None, shifts=whole and bias is not None, to_source=mapping)  # fmt: skip


def _grouped(channels: int, sources: int, head: int) -> Channels:
    """Query head h reads the values of head h // (query heads / value heads)."""
    heads = np.arange(channels // head) // (channels // sources)
    return np.asarray((heads[:, None] * head + np.arange(head)).reshape(-1), np.int64)


def _layer_made(value: ir.Value | None) -> tuple[Operand, Operand | None, int] | None:
    """Weight (with the axis of its output channels), bias and channels of the layer that made the value."""
    node = producer(value, "Add", "MatMul", "Gemm")
    if node is not None and node.op_type == "Add":
        node = next((made for item in node.inputs if (made := producer(item, "MatMul")) is not None), None)
    if node is None or value is None:
        return None
    layer = reader_of(node, 0, -1)
    if layer is None:
        return None
    last = layer.bias.node.outputs[0] if layer.bias is not None else node.outputs[0]
    if last is not value or (node is not value.producer() and sole_consumer(node.outputs[0]) is None):
        return None
    array = layer.weight.value.const_value
    return (
        None
        if array is None
        else (Operand(node, 1, layer.outputs), layer.bias, int(array.shape.numpy()[layer.outputs]))
    )


def mlp_sites(model: ir.Model) -> list[Site | Refusal]:
    """Up projection to down projection: of gated MLPs (a scale passes through the product), through ReLU, and through
    GELU and relatives, where nodes have to be added."""
    found: list[Site | Refusal] = []
    seen: set[str] = set()
    for node in model.graph:
        if node.op_type not in ("MatMul", "Gemm") or reader_of(node, 0, -1) is None:
            continue
        made = producer(behind_casts(node.inputs[0]))
        if made is None or made.outputs[0].name in seen:
            continue
        candidate = _mlp_site(made)
        if candidate is not None:
            seen.add(str(made.outputs[0].name))
            found.append(candidate)
    return found


def _mlp_site(made: ir.Node) -> Site | Refusal | None:
    value = made.outputs[0]
    if made.op_type == "Relu":
        return _between(Kind.RELU, value, made.inputs[0])
    if made.op_type == "Mul" and not any(is_constant(item) for item in made.inputs) and form_of(made) is None:
        for gate in made.inputs:
            maker = producer(behind_casts(gate))
            if gate is not None and maker is not None and form_of(maker) in ACTIVATION_FORMS:
                return _between(Kind.GATED, value, other_operand(made, gate))
        return None
    if form_of(made) in ACTIVATION_FORMS:
        found = find_readers(value)
        channels = value.shape[-1] if value.shape is not None and len(value.shape) else None
        if found.refusal or found.edges or not isinstance(channels, int):
            return Refusal(Kind.ACTIVATION, str(value.name), found.refusal or "it is read by other nodes than layers")
        return Site(Kind.ACTIVATION, value, channels, (), None, tuple(found.layers))
    return None


def _between(kind: Kind, value: ir.Value, source: ir.Value | None) -> Site | Refusal:
    made = _layer_made(source)
    if made is None or source is None or sole_consumer(source) is None:
        return Refusal(kind, str(value.name), "what is scaled does not come from a layer of its own")
    weight, bias, channels = made
    found = find_readers(value)
    if found.refusal or not found.layers or found.edges:
        return Refusal(kind, str(value.name), found.refusal or "it is read by other nodes than layers")
    return Site(kind, value, channels, (weight,), bias, tuple(found.layers), shifts=False)
