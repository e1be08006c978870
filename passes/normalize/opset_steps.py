"""Nodes from one ai.onnx opset to another, one version at a time.

ONNX's own converter skips subgraphs and does not know many operators; here every node of every graph is converted by
the rows of `UPGRADES` and `DOWNGRADES`, and then checked against the schema of the opset that it arrives at.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.passes.normalize.opset_rules import DOWNGRADES, UPGRADES

if TYPE_CHECKING:
    import onnx


@cache
def find_schema(op_type: str, opset: int, *, deprecated: bool = False) -> onnx.defs.OpSchema | None:
    """The schema of a standard operator in this opset; None where it does not exist, or is deprecated unless asked."""
    import onnx

    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated and not deprecated else schema


def convert_nodes(graph: ir.Graph | ir.Function, source: int, target: int) -> list[str]:
    """Convert all nodes of `graph` and its subgraphs; returns the names of those that changed.

    Constants that the new forms need are made as Constant nodes.

    Raises:
        UnsupportedError: A node that cannot be said in the target opset.
    """
    changed = []
    for version in range(source + 1, target + 1):
        rules = {op: rule for (op, at), rule in UPGRADES.items() if at == version}
        for node in _nodes(graph, rules):
            changed.append(node.name or node.op_type)
            rules[node.op_type](node)
    for version in range(source, target, -1):
        rules = {op: rule for (op, at), rule in DOWNGRADES.items() if at == version}
        for node in _nodes(graph, rules):
            changed.append(node.name or node.op_type)
            rules[node.op_type](node)
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.domain == "":
            _check_accepted(node, source, target)
    return changed


def _nodes(graph: ir.Graph | ir.Function, rules: Iterable[str]) -> list[ir.Node]:
    if not rules:
        return []
    return [node for node in ir.traversal.RecursiveGraphIterator(graph) if node.domain == "" and node.op_type in rules]


def _check_accepted(node: ir.Node, source: int, target: int) -> None:
    """Refuse what the target's schema does not take; attributes at a newer schema's default are dropped."""
    schema = find_schema(node.op_type, target)
    where = node.name or next((value.name for value in node.outputs if value.name), "")
    if schema is None:
        raise UnsupportedError(
            f"{node.op_type} does not exist in opset {target}", where=where, hint=f"export without {node.op_type}"
        )
    before = find_schema(node.op_type, source)
    if before is not None and before.since_version == schema.since_version:
        return
    for name in [name for name in node.attributes if name not in schema.attributes]:
        if (
            before is None
            or name not in before.attributes
            or not _is_default(node.attributes[name], before.attributes[name])
        ):
            message = f"{node.op_type} of opset {target} has no attribute {name!r}"
            raise UnsupportedError(message, where=where, hint=f"export with opset {target} or lower")
        node.attributes.pop(name)
    if not schema.min_input <= len(node.inputs) <= schema.max_input:
        message = f"{node.op_type} of opset {target} does not take {len(node.inputs)} inputs"
        raise UnsupportedError(message, where=where, hint=f"export with opset {target} or lower")
    allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
    for index, value in enumerate(node.inputs):
        if value is None or value.dtype is None or not isinstance(value.type, ir.TensorType):
            continue
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        kind = f"tensor({_TYPE_NAMES.get(value.dtype.name, value.dtype.name.lower())})"
        if kind not in allowed.get(formal.type_str, [formal.type_str]):
            message = f"{node.op_type} of opset {target} does not take {kind} as input {index}"
            raise UnsupportedError(message, where=where, hint=f"export with opset {target} or lower")


_TYPE_NAMES = {"FLOAT": "float"}


def _is_default(attribute: ir.Attr, formal: onnx.defs.OpSchema.Attribute) -> bool:
    default = formal.default_value
    if not default.name:
        return False
    value = ir.serde.deserialize_attribute(default).value
    return bool(attribute.value == value)
