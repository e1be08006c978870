"""How far rounding alone can take two graphs of one function apart."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS

HALF, SINGLE, DOUBLE = 2.0**-11, 2.0**-24, 2.0**-53
"""Unit roundoffs."""

CONFIDENCE = 8.0
"""Times the root of the summed squares: sums of n terms stay within lambda sqrt(n) u with probability
1 - 2 exp(-lambda^2 / 2) (Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci.
Comput. 41, 2019, Theorem 2.4). The pretrained models of models/ stay 4 to 150 times below, float32 against float64;
what is left is for errors that norms, softmax and cancellation enlarge.
"""

_MOVES = LAYOUT_OPS | {"Slice", "Split", "Gather", "GatherElements", "GatherND", "Concat", "Expand", "Tile", "Pad",
                       "Shape", "Size", "Cast", "Constant", "Dropout", "DepthToSpace", "SpaceToDepth", "Where", "Relu",
                       "MaxPool", "Max", "Min", "Clip", "Neg", "Abs"}  # fmt: skip
_APPROXIMATED = {"Erf", "Exp", "Log", "Tanh", "Sigmoid", "Sin", "Cos", "Pow", "Gelu", "Softplus", "Mish", "HardSwish",
                 "Sqrt", "Reciprocal", "Elu", "Selu", "Swish", "QuickGelu"}  # fmt: skip
_KERNEL_ULPS = 4.0
"""Error of vectorized elementary functions, in units of the last place."""
_FOLDED = 4.0
"""Roundings that a new weight is worth: folded shifts and biases are differences of larger numbers."""
_UNKNOWN_LENGTH = 512
"""Terms of a sum over an axis of unknown size; also repetitions of a Scan or Loop body."""


def rounding_bound(before: ir.Model, after: ir.Model, unit: float, *, new_weights: int = 0, rounded: float = 0,
                   weight_unit: float = SINGLE) -> float:  # fmt: skip
    """Largest relative difference that rounding explains, between outputs of two graphs of one function.

    CONFIDENCE * sqrt(unit^2 (P(before) + P(after)) + weight_unit^2 (16 new_weights + rounded)), P the terms summed on
    the longest path of the graph: a product over k terms counts k, an elementary function 16, a copy 0.

    Args:
        unit: Unit roundoff of the arithmetic.
        new_weights: Weights that a rewrite computed and rounded to its storage type.
        rounded: Terms summed in the storage type although `unit` is finer.
    """
    terms = longest_sum(before) + longest_sum(after)
    single = _FOLDED**2 * new_weights + rounded
    return CONFIDENCE * math.sqrt(unit**2 * terms + weight_unit**2 * single)


def longest_sum(model: ir.Model) -> float:
    """Terms along the costliest path from an input to an output, at least 1."""
    return max(1.0, _graph_terms(model.graph))


def terms_of(node: ir.Node) -> float:
    """Squared rounding errors that one node adds, in units of the last place."""
    op = node.op_type
    if op in _MOVES:
        return 0.0
    if op in _APPROXIMATED:
        return _KERNEL_ULPS**2
    if op in ("MatMul", "Gemm"):
        transposed = op == "Gemm" and node.attributes.get_int("transB", 0) != 0
        return float(_size(node.inputs[1], -1 if transposed else -2)) + 1
    if op in ("Conv", "ConvTranspose"):
        weight = node.inputs[1]
        rank = 0 if weight is None or weight.shape is None else len(weight.shape)
        return float(math.prod(_size(weight, axis) for axis in range(1, rank))) if rank else float(_UNKNOWN_LENGTH)
    if op.startswith(("Reduce", "Global")) or op in ("Softmax", "LogSoftmax", "AveragePool", "Einsum", "CumSum", "LRN"):
        return float(_UNKNOWN_LENGTH)
    if op.endswith("Normalization") or op in ("Attention", "LSTM", "GRU", "RNN", "STFT", "DFT"):
        return 2.0 * _UNKNOWN_LENGTH
    inner = [_graph_terms(item.as_graph()) for item in node.attributes.values() if item.type == ir.AttributeType.GRAPH]
    if inner:
        return max(inner) * (1 if op == "If" else _UNKNOWN_LENGTH)
    return 1.0


def _graph_terms(graph: ir.Graph) -> float:
    reached: dict[ir.Value, float] = {}
    for node in graph:
        terms = max(_known(node.inputs, reached), default=0.0) + terms_of(node)
        reached.update(dict.fromkeys(node.outputs, terms))
    return max(reached.values(), default=0.0)


def _known(values: Iterable[ir.Value | None], reached: dict[ir.Value, float]) -> list[float]:
    return [reached[value] for value in values if value is not None and value in reached]


def _size(value: ir.Value | None, axis: int) -> int:
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return _UNKNOWN_LENGTH
    size = value.shape[axis]
    return size if isinstance(size, int) else _UNKNOWN_LENGTH
