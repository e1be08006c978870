"""Up projection to down projection: channels that pass from one layer to the next without being mixed."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.graph import is_constant, scalar_constant, sole_consumer
from qcompiler.passes.canonical.forms import ACTIVATION_FORMS, Form, Role, form_of, role_of
from qcompiler.passes.canonical.matching import behind_casts, producer
from qcompiler.passes.sites.axis_factors import Track, has_channels, numbers
from qcompiler.passes.sites.layer_parts import layer_part
from qcompiler.passes.sites.layers import layer_made
from qcompiler.passes.sites.readers import find_readers
from qcompiler.passes.sites.records import Channels, Kind, Refusal, Site

_GATES = frozenset({"Sigmoid", "Relu", "Tanh", "HardSigmoid"})


def mlp_sites(model: ir.Model) -> list[Site | Refusal]:
    """Up projection to down projection: of gated MLPs (a scale passes through the product), through ReLU, and through
    GELU and relatives, where nodes have to be added. A candidate is what a layer reads."""
    return [_mlp_site(kind, node) for kind, node in hidden_values(model)]


def hidden_values(model: ir.Model) -> list[tuple[Kind, ir.Node]]:
    """What makes the hidden channels that at least one layer reads, in graph order; units that were split off
    (`split-units`) are no hidden layer of their own."""
    found = []
    for node in model.graph:
        kind = _kind_of(node)
        layers = find_readers(node.outputs[0]).layers if kind is not None else []
        if kind is not None and any(form_of(layer.node) is not Form.SPLIT for layer in layers):
            found.append((kind, node))
    return found


def _kind_of(node: ir.Node) -> Kind | None:
    if node.domain != "":
        return None
    if node.op_type == "Relu":
        return Kind.RELU
    if form_of(node) in ACTIVATION_FORMS and role_of(node) in (Role.RESULT, Role.WHOLE):
        return Kind.ACTIVATION
    if _is_squared_relu(node):
        return Kind.ACTIVATION
    if node.op_type == "Mul" and form_of(node) is None and not any(is_constant(item) for item in node.inputs):
        return Kind.GATED if gate_of(node) is not None else None
    return None


def _is_squared_relu(node: ir.Node) -> bool:
    """relu(x)^2 (Primer, arXiv:2109.08668; Nemotron), as Mul or Pow."""
    if node.op_type not in ("Mul", "Pow") or form_of(node) is not None or producer(node.inputs[0], "Relu") is None:
        return False
    return node.inputs[0] is node.inputs[1] if node.op_type == "Mul" else scalar_constant(node.inputs[1]) == 2


def gate_of(product: ir.Node) -> ir.Value | None:
    """The factor that an activation function made: of GLU and its variants (arXiv:2002.05202)."""
    for gate in product.inputs:
        maker = producer(behind_casts(gate))
        if gate is not None and maker is not None and (form_of(maker) in ACTIVATION_FORMS or maker.op_type in _GATES):
            return gate
    return None


def _mlp_site(kind: Kind, made: ir.Node) -> Site | Refusal:
    value = made.outputs[0]
    if kind is Kind.RELU:
        return _between(kind, value, made, 0)
    if kind is Kind.GATED:
        return _between(kind, value, made, 1 if made.inputs[0] is gate_of(made) else 0)
    found = find_readers(value)
    channels = value.shape[-1] if value.shape is not None and len(value.shape) else None
    if found.refusal or found.edges or not isinstance(channels, int):
        return Refusal(kind, str(value.name), found.refusal or "it is read by other nodes than layers")
    return Site(kind, value, channels, (), None, tuple(found.layers))


def _between(kind: Kind, value: ir.Value, node: ir.Node, index: int) -> Site | Refusal:
    """The input `index` of the node is what is scaled: all that a layer gives, or a part that nobody else reads, as
    where one layer makes the gate too."""
    source = node.inputs[index]
    made, part = layer_made(source), None
    if made is None or source is None or sole_consumer(source) is None:
        fused = layer_part(node, index)
        part = _last_axis(fused.arrived) if fused is not None else None
        if fused is None or part is None or fused.shares(part):
            return Refusal(kind, str(value.name), "what is scaled does not come from a layer of its own")
        made = fused.weight, fused.bias, part.size
    weight, bias, channels = made
    found = find_readers(value)
    if found.refusal or not found.layers or found.edges:
        return Refusal(kind, str(value.name), found.refusal or "it is read by other nodes than layers")
    return Site(kind, value, channels, (weight,), bias, tuple(found.layers), shifts=False, part=part)


def _last_axis(track: Track | None) -> Channels | None:
    """The source channels along the last axis, if all lie there in ascending order."""
    if track is None or any(has_channels(axis) for axis in track.axes[:-1]):
        return None
    found = numbers(track.axes[-1], track.offset)
    return found if found is not None and found.size and bool((np.diff(found) > 0).all()) else None
