"""Attention's scale moves from the scores to the queries, where TensorRT's fused kernels want it.

    DQ(Q(q, s)) @ k -> * c    becomes    DQ(Q(q * c, s c)) @ k        q @ k -> * c    becomes    (q * c) @ k

The codes stay, but for ties. NVIDIA's documentation asks for Q or K to be scaled before the first product, "for numeric
stability and performance reasons" (Fused Attention, TensorRT 10.x and 11.x); it is also less work than on the scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node, sole_consumer
from qcompiler.passes.canonical.forms import Form, Role, annotate, form_of, role_of, site_of
from qcompiler.pipeline import Outcome, Pass, Skip

Numbers = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ScaleQueries(Pass):
    """Mul or Div by a positive constant number that alone reads a recognised product of queries and keys.

    One number for each head ([heads, 1, 1]) moves too where the queries are not quantized.
    """

    name: ClassVar[str] = "scale-queries"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        names, matched, skipped = FreshNames(model), [], []
        for product in list(model.graph):
            if form_of(product) is not Form.ATTENTION or role_of(product) is not Role.QK:
                continue
            scale = sole_consumer(product.outputs[0])
            factor = _factor(scale, product.outputs[0]) if scale is not None else None
            if scale is None or factor is None or scale.graph is not product.graph:
                continue
            reason = _move(model.graph, product, scale, factor, names)
            if reason:
                skipped.append(Skip(str(product.name), reason))
            else:
                matched.append(str(product.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _factor(node: ir.Node, scores: ir.Value) -> Numbers | None:
    """What the node multiplies the scores by, where that is one positive number, or one for each head."""
    if node.op_type not in ("Mul", "Div") or node.domain not in ("", "ai.onnx"):
        return None
    first = node.inputs[0] is scores
    numbers = constant_array(node.inputs[1 if first else 0])
    if numbers is None or (node.op_type == "Div" and not first) or any(size != 1 for size in numbers.shape[-2:]):
        return None
    wide = numbers.astype(np.float64)
    if not (np.isfinite(wide) & (wide > 0)).all() or (scores.shape is None or numbers.ndim > len(scores.shape)):
        return None
    wide = wide.reshape(()) if wide.size == 1 else wide
    return np.asarray(wide if node.op_type == "Mul" else 1 / wide)


def _move(graph: ir.Graph, product: ir.Node, scale: ir.Node, factor: Numbers, names: FreshNames) -> str:
    """Scale the first operand, its pair included; a refusal or ""."""
    reader, pair = product, _pair(product.inputs[0])
    if pair is not None and factor.ndim:
        return "the pair of the queries has one scale for all heads"
    if pair is not None:
        reader = pair[0]
        steps = [constant_array(node.inputs[1]) for node in (pair[0], pair[-1])]
        zeros = [constant_array(node.inputs[2]) for node in (pair[0], pair[-1]) if len(node.inputs) > 2]
        if any(step is None or step.size != 1 for step in steps) or any(zero is None or zero.any() for zero in zeros):
            return "the pair of the queries has a zero point, or no single scale"
        if any(sole_consumer(node.outputs[0]) is None for node in pair):
            return "the pair of the queries has other readers"
        step = steps[0]
        assert step is not None
        value = add_initializer(graph, np.asarray(step * factor, step.dtype), names(f"{product.name}_query_scale"))
        pair[0].replace_input_with(1, value)
        pair[-1].replace_input_with(1, value)
    queries = reader.inputs[0]
    assert queries is not None
    if not _has_heads(queries, factor):
        return "the queries do not have the heads of the scale"
    dtype = queries.dtype.numpy() if queries.dtype is not None else np.float32
    constant = add_initializer(graph, np.asarray(factor, dtype), names(f"{product.name}_scale"))
    scaled = make_node(
        "Mul", [queries, constant], output=names(f"{queries.name}_scaled"), dtype=queries.dtype, shape=queries.shape
    )
    annotate(scaled, Form.ATTENTION, Role.SCALE, site_of(product) or str(product.name))
    graph.insert_before(reader, scaled)
    reader.replace_input_with(0, scaled.outputs[0])
    output = scale.outputs[0]
    ir.convenience.replace_nodes_and_values(graph, scale, [scale], [], [output], [product.outputs[0]])
    return ""


def _has_heads(queries: ir.Value, factor: Numbers) -> bool:
    """Whether the product with the factor has the shape of the queries."""
    if not factor.ndim:
        return True
    if queries.shape is None or len(queries.shape) < factor.ndim:
        return False
    held = list(queries.shape)[-factor.ndim :]
    return all(size in (1, own) for size, own in zip(factor.shape, held, strict=True))


def _pair(value: ir.Value | None) -> list[ir.Node] | None:
    """QuantizeLinear, perhaps a Clip of the codes, and the DequantizeLinear that makes the value."""
    found: list[ir.Node] = []
    node = None if value is None else value.producer()
    for wanted in (("DequantizeLinear",), ("Clip", "QuantizeLinear"), ("QuantizeLinear",)):
        if node is None or node.op_type not in wanted:
            return None
        found.insert(0, node)
        if node.op_type == "QuantizeLinear":
            return found
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    return None
