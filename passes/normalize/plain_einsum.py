"""Einsum of two operands as one MatMul, which quantizes and which everything behind knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, is_constant, make_node, rank
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class PlainEinsum(Pass):
    """Einsum becomes Transpose, MatMul, Reshape, Transpose, of which only what is needed is made.

    With a constant operand all its summed labels and all its others are one axis each ("bnd,dhe->bhne": a projection
    to heads); its matrix is made anew. Two computed operands need one summed label and one other label each besides
    those they share ("bhnd,bhmd->bhnm"), so that no size has to be known. Everything else stays: a label twice in an
    operand, "...", one or more than two operands, labels that are summed in one operand alone.
    """

    name: ClassVar[str] = "plain-einsum"

    def run(self, model: ir.Model) -> Outcome:
        names, matched, skipped = FreshNames(model), list[str](), list[Skip]()
        for node in list(model.graph.all_nodes()):
            if node.op_type != "Einsum" or node.domain != "":
                continue
            labels = _labels(node)
            editor = _Editor(node, names)
            made = None
            if labels is not None:
                constant = [is_constant(value) for value in node.inputs]
                if any(constant):
                    made = editor.layer(labels, int(constant[1] or not constant[0]))
                else:
                    made = editor.product(labels)
            if made is None:
                skipped.append(Skip(str(node.name), "no product of two matrices along single axes"))
                continue
            output, graph = node.outputs[0], node.graph
            assert isinstance(graph, ir.Graph)
            made.shape, made.type, name = output.shape, output.type, output.name
            output.replace_all_uses_with(made, replace_graph_outputs=True)
            graph.remove(node, safe=True)
            made.name = name
            matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _labels(node: ir.Node) -> tuple[str, str, str] | None:
    """The labels of both operands and of the result."""
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    operands, arrow, result = equation.partition("->")
    parts = operands.split(",")
    if not arrow or len(parts) != 2 or len(node.inputs) != 2 or "." in equation:
        return None
    left, right = parts
    if any(len(set(part)) != len(part) for part in (left, right, result)):
        return None
    if any(rank(value) != len(part) for value, part in zip(node.inputs, parts, strict=True)):
        return None
    alone = set(left) ^ set(right)
    return (left, right, result) if alone <= set(result) else None


class _Editor:
    """Nodes in front of one Einsum."""

    def __init__(self, node: ir.Node, names: FreshNames) -> None:
        self._node, self._names = node, names

    def layer(self, labels: tuple[str, str, str], place: int) -> ir.Value | None:
        """The operand at `place` is a constant without labels that both operands and the result have."""
        data, weight, result = labels[1 - place], labels[place], labels[2]
        value, array = self._node.inputs[1 - place], constant_array(self._node.inputs[place])
        summed = [label for label in weight if label not in result]
        free = [label for label in weight if label in result]
        kept = [label for label in data if label not in summed]
        if array is None or value is None or not summed or not free or set(free) & set(data):
            return None
        sizes = {label: array.shape[at] for at, label in enumerate(weight)}
        order = [weight.index(label) for label in (*summed, *free)]
        products = int(np.prod([sizes[label] for label in summed]))
        matrix = np.ascontiguousarray(array.transpose(order).reshape(products, -1))
        current = self._moved(value, data, [*kept, *summed])
        if len(summed) > 1:
            current = self._reshaped(current, [0] * len(kept) + [products])
        constant = add_initializer(self._graph, matrix, self._names(f"{self._node.inputs[place].name}_matrix"))  # type: ignore[union-attr]
        current = self._made("MatMul", [current, constant])
        if len(free) > 1:
            current = self._reshaped(current, [0] * len(kept) + [sizes[label] for label in free])
        return self._moved(current, [*kept, *free], result)

    def product(self, labels: tuple[str, str, str]) -> ir.Value | None:
        """Two computed operands."""
        left, right, result = labels
        shared = [label for label in left if label in right and label in result]
        summed = [label for label in left if label not in result]
        rows, columns = [label for label in left if label not in right], [label for label in right if label not in left]
        first, second = self._node.inputs
        if len(summed) != 1 or len(rows) != 1 or len(columns) != 1 or first is None or second is None:
            return None
        first = self._moved(first, left, [*shared, *rows, *summed])
        second = self._moved(second, right, [*shared, *summed, *columns])
        return self._moved(self._made("MatMul", [first, second]), [*shared, *rows, *columns], result)

    @property
    def _graph(self) -> ir.Graph:
        assert isinstance(self._node.graph, ir.Graph)
        return self._node.graph

    def _moved(self, value: ir.Value, labels: Sequence[str], wanted: Sequence[str]) -> ir.Value:
        order = [list(labels).index(label) for label in wanted]
        return value if order == sorted(order) else self._made("Transpose", [value], {"perm": order})

    def _reshaped(self, value: ir.Value, sizes: list[int]) -> ir.Value:
        target = add_initializer(self._graph, np.array(sizes, np.int64), self._names(f"{self._node.name}_sizes"))
        return self._made("Reshape", [value, target])

    def _made(self, op: str, inputs: list[ir.Value | None], attributes: dict[str, object] | None = None) -> ir.Value:
        name, dtype = self._names(f"{self._node.name}/{op}"), self._node.outputs[0].dtype
        node = make_node(op, inputs, attributes, output=name, dtype=dtype, shape=None)
        self._graph.insert_before(self._node, node)
        return node.outputs[0]
