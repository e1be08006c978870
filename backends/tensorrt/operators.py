"""Operators that NVIDIA's parser does not take, with the reason and what to do.

Read in the operator table of its source and tried on the parser of TensorRT-RTX 1.7.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

_INTEGER = "integer kernels are chosen by the builder: keep the float operator and put Q/DQ pairs on its inputs"
_BITS = "do the arithmetic with Mul, Floor and Mod on int32 or float"
_NONE = "replace it in the source model, or cut the model there"

UNSUPPORTED: dict[str, str] = {
    **dict.fromkeys(
        ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"), _INTEGER
    ),
    **dict.fromkeys(("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"), _BITS),
    **dict.fromkeys(
        (
            "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
            "SequenceMap", "SplitToSequence", "ConcatFromSequence",
            "Optional", "OptionalGetElement", "OptionalHasElement",
        ),
        "use Split, Concat and Gather on tensors",
    ),
    **dict.fromkeys(
        ("Unique", "Compress", "Bernoulli", "Multinomial", "Det", "MaxUnpool", "MaxRoiPool", "StringNormalizer",
         "StringConcat", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder", "AffineGrid",
         "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", "Col2Im", "DFT", "MelWeightMatrix"),
        _NONE,
    ),
}

FIRST_OPSET: dict[str, int] = {"Gelu": 20, "RMSNormalization": 23, "RotaryEmbedding": 23, "Swish": 24}
"""Operators that a parser for an older opset cannot know."""


def refused_nodes(model: ir.Model, opset: int) -> Iterator[tuple[ir.Node, str, str]]:
    """Every node that the parser refuses by its name alone: the node, what is wrong, and the fix."""
    for node in model.graph.all_nodes():
        if node.domain not in ("", "ai.onnx"):
            name = f"{node.domain}::{node.op_type}"
            yield node, f"operator {name} is not one of ai.onnx", "export with standard operators"
        elif node.op_type in UNSUPPORTED:
            yield node, f"TensorRT's parser does not take {node.op_type}", UNSUPPORTED[node.op_type]
        elif node.op_type == "Attention":
            yield node, "TensorRT builds the single Attention operator for some shapes only", "decompose attention"
        elif FIRST_OPSET.get(node.op_type, 0) > opset:
            yield node, f"{node.op_type} is newer than opset {opset}", "decompose it"
