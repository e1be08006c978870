"""Common subexpressions: equal operators on equal inputs are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from qcompiler.passes.normalize.operators import has_subgraph, is_deterministic
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class MergeEqualNodes(Pass):
    """Two nodes of one graph with equal operator, attributes and inputs become one; so do equal small initializers.

    Nodes whose result the graph returns stay, so that output names do. Random operators and nodes with subgraphs stay.

    Attributes:
        size_limit: Initializers above this many elements are not compared.
    """

    name: ClassVar[str] = "merge-equal-nodes"
    size_limit: int = 16

    def run(self, model: ir.Model) -> Outcome:
        merged: list[str] = []
        for graph in model.graphs():
            merged += self._merge_initializers(graph)
            merged += _merge_nodes(graph)
        return Outcome(bool(merged), tuple(merged))

    def _merge_initializers(self, graph: ir.Graph) -> list[str]:
        first: dict[Any, ir.Value] = {}
        merged = []
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is None or tensor.size > self.size_limit or tensor.dtype == ir.DataType.STRING:
                continue
            if value.is_graph_input() or value.is_graph_output():
                continue
            key = (tensor.dtype, tuple(tensor.shape), tensor.tobytes())
            kept = first.setdefault(key, value)
            if kept is not value:
                value.replace_all_uses_with(kept)
                del graph.initializers[name]
                merged.append(name)
        return merged


def _merge_nodes(graph: ir.Graph) -> list[str]:
    first: dict[Any, ir.Node] = {}
    merged = []
    for node in graph:
        if has_subgraph(node) or not is_deterministic(node) or any(value.is_graph_output() for value in node.outputs):
            continue
        attributes = tuple(sorted((name, _hashable(item)) for name, item in node.attributes.items()))
        outputs = tuple(bool(value.name) for value in node.outputs)
        key = (node.op_identifier(), tuple(id(value) for value in node.inputs), outputs, attributes)
        kept = first.setdefault(key, node)
        if kept is not node:
            for old, new in zip(node.outputs, kept.outputs, strict=True):
                old.replace_all_uses_with(new)
            graph.remove(node, safe=True)
            merged.append(node.name or node.op_type)
    return merged


def _hashable(attribute: ir.Attr) -> Any:
    value = attribute.value
    if isinstance(value, ir.TensorProtocol):
        return str(attribute.type), str(value.dtype), tuple(value.shape), value.tobytes()
    if attribute.type in (ir.AttributeType.TENSORS, ir.AttributeType.SPARSE_TENSOR, ir.AttributeType.SPARSE_TENSORS):
        return str(attribute.type), str(id(attribute))  # never equal to another
    if isinstance(value, (list, tuple)):
        return str(attribute.type), *(repr(item) for item in value)
    return str(attribute.type), repr(value)
