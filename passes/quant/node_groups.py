"""Nodes that play the same part in repeated blocks: all attention outputs, all second MLP layers, ..."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from qcompiler.passes.canonical.forms import Form, form_of, role_of
from qcompiler.passes.quant.select_sites import source_of


def node_groups(
    model: ir.Model, names: Collection[str], *, whole_attention: bool = False
) -> tuple[tuple[str, ...], ...]:
    """The nodes called `names`, grouped by operator, role, what makes their input and the shape of their weight.

    Groups and members are in graph order.

    Args:
        whole_attention: Both products of attention are one group: fused kernels take both as integers, or neither.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for node in model.graph:
        if node.name in names:
            part = ("attention",) if whole_attention and form_of(node) is Form.ATTENTION else _part(node)
            groups.setdefault(part, []).append(str(node.name))
    return tuple(tuple(members) for members in groups.values())


def ends(model: ir.Model, names: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """The first 2, 4, 6, 8 and the last 1, 2 of the nodes called `names`: what convolutional nets are touchy about."""
    ordered = [str(node.name) for node in model.graph if node.name in names]
    heads = [tuple(ordered[:count]) for count in (2, 4, 6, 8) if count < len(ordered)]
    tails = [tuple(ordered[-count:]) for count in (1, 2) if count < len(ordered)]
    return (*heads, *tails)


def _part(node: ir.Node) -> tuple[str, ...]:
    role = role_of(node)
    if role is not None:
        return node.op_type, str(role)
    weights = [value for value in node.inputs[:2] if value is not None and value.const_value is not None]
    shape = str(weights[0].shape) if weights else ""
    makers = [source_of(value).producer() for value in node.inputs[:2] if value is not None and value not in weights]
    return node.op_type, shape, *(maker.op_type if maker is not None else "input" for maker in makers)
