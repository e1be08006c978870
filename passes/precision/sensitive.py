"""Nodes that stay float32 whatever the carrier, by what they are and where they stand.

One table of rules at the end; each yields nodes with the reason. FP16 has 11 significant bits and ends at 65504: sums
over many elements, exponentials, variances, recurrences and positions need more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, is_constant, scalar_constant

WEIGHTED_OPS: Final = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
Found = Iterator[tuple[ir.Node, str]]

_WIDE: Final = {
    **dict.fromkeys(("Exp", "Softplus", "Pow", "Expm1"), "exponential"),
    **dict.fromkeys(("Log", "LogSoftmax", "Sqrt", "Reciprocal"), "logarithm or root"),
    **dict.fromkeys(
        ("CumSum", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
         "ReduceLogSumExp", "GlobalAveragePool", "Mean", "Sum"),
        "sum over many elements",
    ),
    **dict.fromkeys(("RMSNormalization", "LpNormalization", "MeanVarianceNormalization"), "norm"),
    **dict.fromkeys(("RandomNormalLike", "RandomUniformLike", "NonMaxSuppression"), "needs float32"),
}
_TO_ROOT: Final = frozenset({"Add", "Mul", "Div", "Max", "Clip", "Sub"})
_GUARDS: Final = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Clip"})
_INDEX_MATH: Final = frozenset({"Add", "Sub", "Mul", "Div", "Floor", "Ceil", "Round", "Mod", "Max", "Min", "Clip"})
_ANGLE_MATH: Final = LAYOUT_OPS | frozenset(
    {"Mul", "Div", "MatMul", "Concat", "Einsum", "Cast", "Expand", "Slice", "Range"}
)


def sensitive_nodes(model: ir.Model) -> dict[ir.Node, str]:
    """Node to the reason why it stays float32; the first rule that names a node wins."""
    reasons: dict[ir.Node, str] = {}
    for rule in RULES:
        for node, reason in rule(model):
            reasons.setdefault(node, reason)
    return reasons


def norm_nodes(model: ir.Model) -> Found:
    """Decomposed norms: from x - mean over the variance and its root to the division."""
    for node in model.graph.all_nodes():
        is_root = node.op_type == "Sqrt" or (node.op_type == "Pow" and scalar_constant(node.inputs[1]) in (0.5, -0.5))
        if not is_root:
            continue
        chain = _variance_of(node)
        if chain:
            for item in (*chain, node, *_division_by(node)):
                yield item, "norm"


def _variance_of(root: ir.Node) -> list[ir.Node]:
    """Nodes from x - mean(x) (or x) up to the input of the root; empty where it is no norm."""
    chain: list[ir.Node] = []
    node = _sole_source(root)
    while node is not None and node.op_type in _TO_ROOT and len(chain) < 4:
        chain.append(node)
        node = _sole_source(node)
    if node is None or node.op_type not in ("ReduceMean", "ReduceSum"):
        return []
    chain.append(node)
    square = node.inputs[0].producer() if node.inputs[0] is not None else None
    if square is None or square.op_type not in ("Mul", "Pow"):
        return []
    chain.append(square)
    centred = square.inputs[0].producer() if square.inputs[0] is not None else None
    if centred is not None and centred.op_type == "Sub":
        sources = [value.producer() for value in centred.inputs if value is not None]
        means = [item for item in sources if item is not None and item.op_type == "ReduceMean"]
        chain += [centred, *means] if means else []
    return chain


def _sole_source(node: ir.Node) -> ir.Node | None:
    """The producer of the only input that is computed."""
    computed = [value for value in node.inputs if value is not None and not is_constant(value)]
    return computed[0].producer() if len(computed) == 1 else None


def _division_by(root: ir.Node) -> Iterator[ir.Node]:
    for node in root.outputs[0].consumers():
        if node.op_type in ("Div", "Mul"):
            yield node
        elif node.op_type == "Reciprocal" or (node.op_type == "Div" and node.inputs[1] is root.outputs[0]):
            yield node
            yield from (item for item in node.outputs[0].consumers() if item.op_type == "Mul")


def state_nodes(model: ir.Model) -> Found:
    """Inside Scan and Loop bodies: what feeds a state or reads it, up to weighted operators."""
    for node in model.graph.all_nodes():
        if node.op_type == "Scan":
            body = node.attributes["body"].as_graph()
            states = len(body.inputs) - node.attributes["num_scan_inputs"].as_int()
            yield from _recurrence(body, body.inputs[:states], body.outputs[:states])
        elif node.op_type == "Loop":
            body = node.attributes["body"].as_graph()
            states = len(body.inputs) - 2
            yield from _recurrence(body, body.inputs[2:], body.outputs[1 : 1 + states])


def _recurrence(body: ir.Graph, entering: Sequence[ir.Value], leaving: Sequence[ir.Value]) -> Found:
    inside = set(body)
    seen: set[ir.Node] = set()
    for forward, values in ((False, leaving), (True, entering)):
        front = list(values)
        visited: set[ir.Node] = set()
        while front:
            value = front.pop()
            producer = value.producer()
            near = value.consumers() if forward else [] if producer is None else [producer]
            for node in near:
                if node in visited or node not in inside or node.op_type in WEIGHTED_OPS or _is_pair(node):
                    continue
                visited.add(node)
                front.extend(node.outputs if forward else [item for item in node.inputs if item is not None])
        seen |= visited
    for node in body:
        if node in seen:
            yield node, "recurrent state"


def _is_pair(node: ir.Node) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")


def fraction_nodes(model: ir.Model) -> Found:
    """x - Floor(x), and the arithmetic that x comes from: float16 has no fraction left above 1024."""
    for node in model.graph.all_nodes():
        floor = node.inputs[1].producer() if node.op_type == "Sub" and node.inputs[1] is not None else None
        if floor is None or floor.op_type != "Floor" or floor.inputs[0] is not node.inputs[0]:
            continue
        source = None if floor.inputs[0] is None else floor.inputs[0].producer()
        for item in (node, floor):
            yield item, "fraction"
        while source is not None and source.op_type in ("Add", "Sub", "Mul", "Div"):
            yield source, "fraction"
            source = _sole_source(source)


def index_nodes(model: ir.Model) -> Found:
    """Float arithmetic that ends in integers: exact only in float32 above 2048."""
    for node in model.graph.all_nodes():
        if node.op_type == "Cast" and node.outputs[0].dtype in (ir.DataType.INT64, ir.DataType.INT32):
            for item in _upstream(node, _INDEX_MATH | LAYOUT_OPS | {"Cast", "Range", "Sqrt", "Concat"}):
                yield item, "index arithmetic"


def angle_nodes(model: ir.Model) -> Found:
    """Sine and cosine with the positions and frequencies before them."""
    for node in model.graph.all_nodes():
        if node.op_type in ("Sin", "Cos"):
            yield node, "angle"
            for item in _upstream(node, _ANGLE_MATH):
                yield item, "angle"


def _upstream(node: ir.Node, through: frozenset[str]) -> Iterator[ir.Node]:
    """Producers before `node`, as long as they are operators of `through` that read no quantized value."""
    front, seen = [node], set()
    while front:
        for value in front.pop().inputs:
            producer = None if value is None else value.producer()
            if producer is None or producer in seen or producer.op_type not in through:
                continue
            if any(value is not None and _from_pair(value) for value in producer.inputs):
                continue
            seen.add(producer)
            front.append(producer)
            yield producer


def _from_pair(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def epsilon_nodes(model: ir.Model) -> Found:
    """Constants too small for float16 that keep a denominator from 0, with what divides by the result."""
    for node in model.graph.all_nodes():
        sizes = [scalar_constant(value) for value in node.inputs]
        if node.op_type in _GUARDS and any(size is not None and 0 < abs(size) < 2.0**-14 for size in sizes):
            yield node, "tiny constant"
            for reader in node.outputs[0].consumers():
                if reader.op_type in ("Div", "Reciprocal", "Log", "Sqrt", "Pow"):
                    yield reader, "tiny constant"


def wide_nodes(model: ir.Model) -> Found:
    """Operators that need range or accuracy wherever they stand."""
    for node in model.graph.all_nodes():
        if node.op_type in _WIDE:
            yield node, _WIDE[node.op_type]


RULES: Final[tuple[Callable[[ir.Model], Found], ...]] = (
    norm_nodes, state_nodes, fraction_nodes, index_nodes, angle_nodes, epsilon_nodes, wide_nodes,
)
