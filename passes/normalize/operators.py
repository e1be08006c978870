"""What passes must know of operators and ONNX's schemas do not say."""

from __future__ import annotations

import onnx_ir as ir

RANDOM_OPS = frozenset(
    {"RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike", "Multinomial", "Bernoulli"}
)
QUANTIZATION_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


def is_deterministic(node: ir.Node) -> bool:
    """Whether equal inputs always give equal outputs."""
    if node.op_type == "Dropout":
        return False  # in training mode it draws; in inference it is dropped elsewhere
    return node.domain == "" and node.op_type not in RANDOM_OPS


def has_subgraph(node: ir.Node) -> bool:
    """Whether the node is a Scan, Loop, If or the like."""
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(attribute.type in kinds for attribute in node.attributes.values())
