"""Up projection to down projection: channels that pass from one layer to the next without being mixed."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph import is_constant, sole_consumer
from qcompiler.passes.canonical.forms import ACTIVATION_FORMS, Role, form_of, role_of
from qcompiler.passes.canonical.matching import behind_casts, other_operand, producer
from qcompiler.passes.sites.layers import layer_made
from qcompiler.passes.sites.readers import find_readers
from qcompiler.passes.sites.records import Kind, Refusal, Site


def mlp_sites(model: ir.Model) -> list[Site | Refusal]:
    """Up projection to down projection: of gated MLPs (a scale passes through the product), through ReLU, and through
    GELU and relatives, where nodes have to be added. A candidate is what a layer reads."""
    return [_mlp_site(kind, node) for kind, node in hidden_values(model)]


def hidden_values(model: ir.Model) -> list[tuple[Kind, ir.Node]]:
    """What makes the hidden channels that at least one layer reads, in graph order."""
    found = []
    for node in model.graph:
        kind = _kind_of(node)
        if kind is not None and find_readers(node.outputs[0]).layers:
            found.append((kind, node))
    return found


def _kind_of(node: ir.Node) -> Kind | None:
    if node.domain != "":
        return None
    if node.op_type == "Relu":
        return Kind.RELU
    if form_of(node) in ACTIVATION_FORMS and role_of(node) in (Role.RESULT, Role.WHOLE):
        return Kind.ACTIVATION
    if node.op_type == "Mul" and form_of(node) is None and not any(is_constant(item) for item in node.inputs):
        return Kind.GATED if gate_of(node) is not None else None
    return None


def gate_of(product: ir.Node) -> ir.Value | None:
    """The factor that an activation function made."""
    for gate in product.inputs:
        maker = producer(behind_casts(gate))
        if gate is not None and maker is not None and form_of(maker) in ACTIVATION_FORMS:
            return gate
    return None


def _mlp_site(kind: Kind, made: ir.Node) -> Site | Refusal:
    value = made.outputs[0]
    if kind is Kind.RELU:
        return _between(kind, value, made.inputs[0])
    if kind is Kind.GATED:
        gate = gate_of(made)
        return _between(kind, value, other_operand(made, gate) if gate is not None else None)
    found = find_readers(value)
    channels = value.shape[-1] if value.shape is not None and len(value.shape) else None
    if found.refusal or found.edges or not isinstance(channels, int):
        return Refusal(kind, str(value.name), found.refusal or "it is read by other nodes than layers")
    return Site(kind, value, channels, (), None, tuple(found.layers))


def _between(kind: Kind, value: ir.Value, source: ir.Value | None) -> Site | Refusal:
    made = layer_made(source)
    if made is None or source is None or sole_consumer(source) is None:
        return Refusal(kind, str(value.name), "what is scaled does not come from a layer of its own")
    weight, bias, channels = made
    found = find_readers(value)
    if found.refusal or not found.layers or found.edges:
        return Refusal(kind, str(value.name), found.refusal or "it is read by other nodes than layers")
    return Site(kind, value, channels, (weight,), bias, tuple(found.layers), shifts=False)
