"""Questions and edits that onnx_ir lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

LAYOUT_OPS = frozenset({"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"})
"""Operators that move or rename elements and leave each value as it is."""


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node, those of subgraphs included, in graph order."""
    yield from model.graph.all_nodes()


def is_constant(value: ir.Value | None) -> bool:
    """Whether the value is an initializer (or Constant) with known content that nobody can feed."""
    return value is not None and value.const_value is not None and not value.is_graph_input()


def constant_array(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The content of a constant, looking through Identity; None where it is computed at run time."""
    while value is not None and value.const_value is None:
        producer = value.producer()
        if producer is None or producer.op_type != "Identity":
            return None
        value = producer.inputs[0]
    if value is None or value.is_graph_input():
        return None
    tensor = value.const_value
    return None if tensor is None else tensor.numpy()


def scalar_constant(value: ir.Value | None) -> float | None:
    """The content of a constant with a single element."""
    array = constant_array(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def rank(value: ir.Value | None) -> int | None:
    """Number of dimensions where known."""
    return None if value is None or value.shape is None else len(value.shape)


def is_float(value: ir.Value | None) -> bool:
    """Whether the value is a float tensor, or its type is unknown."""
    return value is not None and value.dtype in (
        None,
        ir.DataType.FLOAT,
        ir.DataType.FLOAT16,
        ir.DataType.BFLOAT16,
        ir.DataType.DOUBLE,
    )


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The only node that reads the value; None where there are others or the graph returns it."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers of the main graph; nothing is read."""
    return sum(item.const_value.nbytes for item in model.graph.initializers.values() if item.const_value is not None)


class FreshNames:
    """Names that no value or node of the model bears yet; deterministic."""

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str] = set()
        for graph in model.graphs():
            self._taken.update(value.name or "" for value in graph.inputs)
            self._taken.update(graph.initializers)
            for node in graph:
                self._taken.add(node.name or "")
                self._taken.update(value.name or "" for value in node.outputs)

    def __call__(self, wish: str) -> str:
        """`wish`, or `wish_1`, `wish_2`, ..."""
        name, count = wish, 0
        while name in self._taken:
            count += 1
            name = f"{wish}_{count}"
        self._taken.add(name)
        return name


def add_initializer(
    graph: ir.Graph, array: np.ndarray[Any, Any], name: str, dtype: ir.DataType | None = None
) -> ir.Value:
    """Register a constant under a name that must be fresh."""
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), dtype=dtype, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


class SharedConstants:
    """Initializers by content: equal arrays are made once."""

    def __init__(self, graph: ir.Graph, names: FreshNames) -> None:
        self._graph, self._names = graph, names
        self._made: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def __call__(self, array: np.ndarray[Any, Any], wish: str) -> ir.Value:
        """The initializer with this content; the first wish for it is its name."""
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._made:
            self._made[key] = add_initializer(self._graph, array, self._names(wish))
        return self._made[key]


def make_node(
    op_type: str,
    inputs: list[ir.Value | None],
    attributes: dict[str, Any] | None = None,
    *,
    output: str,
    dtype: ir.DataType | None,
    shape: ir.Shape | None,
    domain: str = "",
    name: str | None = None,
) -> ir.Node:
    """A node with one named and typed output."""
    made = ir.node(op_type, inputs, attributes or {}, domain=domain, num_outputs=1, name=name or output)
    result = made.outputs[0]
    result.name, result.shape = output, shape
    if dtype is not None:
        result.type = ir.TensorType(dtype)
    return made
