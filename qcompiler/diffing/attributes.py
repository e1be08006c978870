"""Attributes of nodes as texts that are equal where the operator does the same."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import onnx
import onnx_ir as ir

from qcompiler.diffing.digest import shape_text, tensor_digest

_WINDOWED: Final = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool", "QLinearAveragePool"}
)
_NEUTRAL: Final = {"dilations": 1, "strides": 1, "pads": 0, "output_padding": 0}


def attribute_texts(node: ir.Node, opset: int) -> dict[str, str]:
    """Name to text of each attribute, those at their default included; subgraphs are left out."""
    found = dict(default_texts(node.op_type, node.domain, opset))
    for name, attribute in node.attributes.items():
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            continue
        if not (node.op_type in _WINDOWED and _is_implied(node, name, attribute)):
            found[name] = _text(attribute)
    return found


def same_attribute(name: str, first: str, second: str, rank: int | None) -> bool:
    """Whether two texts mean the same; an axis may be counted from either end."""
    return first == second or (name == "axis" and rank is not None and int(first) % rank == int(second) % rank)


def _is_implied(node: ir.Node, name: str, attribute: ir.Attr) -> bool:
    if name == "kernel_shape":
        return "Conv" in node.op_type  # the weight's shape says it
    return name in _NEUTRAL and not attribute.is_ref() and all(item == _NEUTRAL[name] for item in attribute.value)


def _text(attribute: ir.Attr) -> str:
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    value = attribute.value
    if isinstance(value, ir.TensorProtocol):
        return f"{value.dtype.name.lower()}[{shape_text(value)}]#{tensor_digest(value)[:8]}"
    return plain_text(value)


def plain_text(value: Any) -> str:
    """A number, a text or a list of these."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(plain_text(item) for item in value) + "]"
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return f"{value:.9g}" if isinstance(value, float) else str(value)


@lru_cache(maxsize=4096)
def default_texts(op_type: str, domain: str, opset: int) -> dict[str, str]:
    """Name to text of the defaults that the operator's schema states."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return {}
    found = {}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.type:
            found[name] = _text(ir.serde.deserialize_attribute(attribute.default_value))
    return found
