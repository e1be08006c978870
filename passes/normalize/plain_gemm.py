"""Gemm in the one form that integer kernels and later passes take: alpha * A' @ B' + beta * C -> A @ B' + C.

Factors go into the constants, a transposed A gets a Transpose of its own, and a Gemm whose constant stands on the left
becomes MatMul and Add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, is_constant, make_node
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class PlainGemm(Pass):
    """See the module. Needs constants as initializers. alpha stays where no operand is constant."""

    name: ClassVar[str] = "plain-gemm"

    def run(self, model: ir.Model) -> Outcome:
        fresh = FreshNames(model)
        scaled: dict[tuple[ir.Value, float], ir.Value] = {}
        matched, skipped = [], []
        for node in list(model.graph.all_nodes()):
            if node.op_type != "Gemm" or node.domain not in ("", "ai.onnx") or not _is_float(node):
                continue
            changed = self._beta(node, fresh, scaled)
            changed |= self._alpha(node, fresh, scaled)
            if node.attributes.get_float("alpha", 1.0) != 1:
                skipped.append(Skip(str(node.name), "alpha between two computed operands"))
            left = is_constant(node.inputs[0]) and not is_constant(node.inputs[1])
            if node.attributes.get_int("transA", 0):
                _transpose(node, 0, fresh)
                node.attributes.pop("transA")
                changed = True
            if left:
                _to_matmul(node, fresh)
                changed = True
            if changed:
                matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    @staticmethod
    def _beta(node: ir.Node, fresh: FreshNames, scaled: dict[tuple[ir.Value, float], ir.Value]) -> bool:
        beta = node.attributes.get_float("beta", 1.0)
        if beta == 1:
            return False
        node.attributes.pop("beta")
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None:
            return True
        if beta == 0:
            node.replace_input_with(2, None)
        elif is_constant(bias):
            node.replace_input_with(2, _scaled(bias, beta, fresh, scaled))
        else:
            graph = node.graph
            assert graph is not None and bias.dtype is not None
            factor = add_initializer(_owner(graph), np.asarray(beta, bias.dtype.numpy()), fresh(f"{node.name}/beta"))
            made = make_node(
                "Mul", [bias, factor], output=fresh(f"{node.name}/bias"), dtype=bias.dtype, shape=bias.shape
            )
            graph.insert_before(node, made)
            node.replace_input_with(2, made.outputs[0])
        return True

    @staticmethod
    def _alpha(node: ir.Node, fresh: FreshNames, scaled: dict[tuple[ir.Value, float], ir.Value]) -> bool:
        alpha = node.attributes.get_float("alpha", 1.0)
        index = next((place for place in (1, 0) if is_constant(node.inputs[place])), None)
        if alpha == 1 or index is None:
            return False
        weight = node.inputs[index]
        assert weight is not None
        node.replace_input_with(index, _scaled(weight, alpha, fresh, scaled))
        node.attributes.pop("alpha")
        return True


def _is_float(node: ir.Node) -> bool:
    return all(
        value is not None and value.dtype is not None and value.dtype.is_floating_point() for value in node.inputs[:2]
    )


def _scaled(
    value: ir.Value, factor: float, fresh: FreshNames, scaled: dict[tuple[ir.Value, float], ir.Value]
) -> ir.Value:
    """A second initializer, times `factor`; the first may have other readers."""
    key = (value, factor)
    if key not in scaled:
        assert value.const_value is not None and value.graph is not None
        array = value.const_value.numpy()
        product = (array.astype(np.float64) * factor).astype(array.dtype)
        scaled[key] = add_initializer(_owner(value.graph), product, fresh(f"{value.name}_scaled"))
    return scaled[key]


def _owner(graph: ir.Graph | ir.GraphView | ir.Function) -> ir.Graph:
    assert isinstance(graph, ir.Graph), "functions are inlined before"
    return graph


def _transpose(node: ir.Node, index: int, fresh: FreshNames) -> None:
    """Input `index`, a matrix, through a Transpose."""
    value, graph = node.inputs[index], node.graph
    assert value is not None and graph is not None
    shape = ir.Shape(list(value.shape)[::-1]) if value.shape is not None else None
    name = fresh(f"{node.name}/transposed")
    made = make_node("Transpose", [value], {"perm": [1, 0]}, output=name, dtype=value.dtype, shape=shape)
    graph.insert_before(node, made)
    node.replace_input_with(index, made.outputs[0])


def _to_matmul(node: ir.Node, fresh: FreshNames) -> None:
    """Gemm(A, B[, C]) -> MatMul(A, B) [-> Add(C)]; the last node keeps the output's and the Gemm's names."""
    graph, result = node.graph, node.outputs[0]
    assert graph is not None
    if node.attributes.get_int("transB", 0):
        _transpose(node, 1, fresh)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    name = str(result.name)
    product = make_node(
        "MatMul", list(node.inputs[:2]), output=fresh(f"{name}/product"), dtype=result.dtype, shape=result.shape,
        name=node.name,
    )  # fmt: skip
    made = [product]
    if bias is not None:
        output = fresh(f"{name}/sum")
        made.append(
            make_node("Add", [product.outputs[0], bias], output=output, dtype=result.dtype, shape=result.shape)
        )
    ir.convenience.replace_nodes_and_values(graph, node, [node], made, [result], [made[-1].outputs[0]])
