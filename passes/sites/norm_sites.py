"""Norms and the layers that read them."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from qcompiler.graph import constant_array
from qcompiler.passes.canonical.forms import Form, Role, form_of, role_of, site_of
from qcompiler.passes.sites.conv_sites import conv_reader
from qcompiler.passes.sites.readers import find_readers
from qcompiler.passes.sites.records import Edge, Kind, Operand, Refusal, Site

_FORMS = (Form.LAYER_NORM, Form.RMS_NORM)


def norm_sites(model: ir.Model) -> list[Site | Refusal]:
    """Each LayerNorm and RMSNorm over the last axis, as one operator or annotated, in graph order.

    A LayerNormalization takes a shift even without a bias, which it is given; RMSNorm has no place for one. A residual
    edge (post-LN) is recorded with the bias of the layer that the same Add brings in. Convolutions with more than one
    place of their kernel take a scale (and a rotation) but no shift, and so do layers behind a mask or another factor.
    """
    found: list[Site | Refusal] = []
    parts: dict[str, list[ir.Node]] = {}
    last: dict[str, ir.Node] = {}
    for node in model.graph:
        if form_of(node) in _FORMS and (key := site_of(node)) is not None:
            parts.setdefault(key, []).append(node)
            last[key] = node
    for node in model.graph:
        key = site_of(node)
        if key is not None and last.get(key) is node:
            found.append(_whole(node) if role_of(node) is Role.WHOLE else _decomposed(key, parts[key]))
    return found


def _whole(node: ir.Node) -> Site | Refusal:
    value = node.outputs[0]
    dims = len(value.shape) if value.shape is not None else 0
    if node.attributes.get_int("axis", -1) not in (-1, dims - 1):
        return _refuse(value, "it normalizes over several axes")
    if any(output.uses() for output in node.outputs[1:]):
        return _refuse(value, "its mean or deviation is read too")
    gain = Operand(node, 1)
    array = constant_array(node.inputs[1])
    if array is None or array.ndim != 1:
        return _refuse(value, "its gain is computed at run time")
    shifts = node.op_type == "LayerNormalization"
    bias = None
    if shifts and len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = Operand(node, 2)
        if constant_array(bias.value) is None:
            return _refuse(value, "its bias is computed at run time")
    return _with_readers(value, array.size, gain, bias, node if shifts else None)


def _decomposed(key: str, nodes: list[ir.Node]) -> Site | Refusal:
    """Primitive operators: the gain and bias are constants of a Mul and an Add."""
    value = nodes[-1].outputs[0]
    gain = _constant_of(nodes, Role.GAIN)
    if gain is None:
        return Refusal(Kind.NORM, key, "primitive operators without a gain leave no place for a scale")
    channels = value.shape[-1] if value.shape is not None and len(value.shape) else None
    array = constant_array(gain.value)
    if not isinstance(channels, int) or array is None or array.size not in (1, channels):
        return Refusal(Kind.NORM, key, "the number of its channels is not known")
    return _with_readers(value, channels, gain, _constant_of(nodes, Role.BIAS), None)


def _constant_of(nodes: list[ir.Node], role: Role) -> Operand | None:
    for node in nodes:
        if role_of(node) is role:
            for index, value in enumerate(node.inputs):
                if constant_array(value) is not None and value is not None and value.const_value is not None:
                    return Operand(node, index, -1)
    return None


def _with_readers(
    value: ir.Value, channels: int, gain: Operand, bias: Operand | None, bias_node: ir.Node | None
) -> Site | Refusal:
    found = find_readers(value, factors=True)
    if found.refusal:
        return _refuse(value, found.refusal)
    spatial = {edge: layer for edge in found.edges if (layer := conv_reader(edge.node, edge.index, edge.axis))}
    layers = [*found.layers, *(replace(layer, bias=None) for layer in spatial.values())]
    if not layers:
        return _refuse(value, f"no layer reads it but {_names(found.edges) or 'nothing'}")
    shifts = (bias is not None or bias_node is not None) and not spatial and not found.factored
    edges = tuple(edge for edge in found.edges if edge not in spatial)
    return Site(Kind.NORM, value, channels, (gain,), bias, tuple(layers), edges, bias_node=bias_node, shifts=shifts)


def _names(edges: list[Edge]) -> str:
    return ", ".join(sorted({edge.node.op_type for edge in edges}))


def _refuse(value: ir.Value, reason: str) -> Refusal:
    return Refusal(Kind.NORM, str(value.name), reason)
