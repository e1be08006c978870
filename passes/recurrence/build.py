"""Writing nodes one after the other in front of a place of the graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer

Array = np.ndarray[Any, Any]


class Builder:
    """Appends nodes to a list that `insert_before` or `insert_after` puts into the graph, in order.

    Args:
        graph: Where constants are registered.
        stem: Names of new values begin with it.
    """

    def __init__(self, graph: ir.Graph, fresh: FreshNames, stem: str) -> None:
        self.graph, self.fresh, self.stem = graph, fresh, stem
        self.nodes: list[ir.Node] = []
        self._constants: dict[tuple[bytes, tuple[int, ...], str], ir.Value] = {}

    def op(
        self, op_type: str, *inputs: ir.Value | Array | None, dtype: ir.DataType | None = None, **attributes: Any
    ) -> ir.Value:
        """One node; arrays become constants. The type is that of the first input unless given."""
        values = [self.constant(item) if isinstance(item, np.ndarray) else item for item in inputs]
        name = self.fresh(f"{self.stem}_{op_type.lower()}")
        node = ir.node(op_type, values, attributes, num_outputs=1, name=name)
        kind = dtype or (values[0].dtype if values and values[0] is not None else None)
        node.outputs[0].name = name
        node.outputs[0].type = None if kind is None else ir.TensorType(kind)
        self.nodes.append(node)
        return node.outputs[0]

    def copy(self, node: ir.Node, inputs: list[ir.Value | None], attributes: dict[str, Any] | None = None) -> ir.Value:
        """The same operator on other inputs, with other attributes where given."""
        made = self.op(node.op_type, *inputs, dtype=node.outputs[0].dtype)
        copied = self.nodes[-1]
        for name, attribute in node.attributes.items():
            copied.attributes[name] = attribute
        for name, value in (attributes or {}).items():
            copied.attributes[name] = ir.convenience.convert_attribute(name, value)
        copied.metadata_props.update(node.metadata_props)
        return made

    def constant(self, array: Array) -> ir.Value:
        """An initializer; equal small arrays are one."""
        key = (array.tobytes(), array.shape, array.dtype.str)
        if array.size > 64:
            return add_initializer(self.graph, array, self.fresh(f"{self.stem}_constant"))
        if key not in self._constants:
            self._constants[key] = add_initializer(self.graph, array, self.fresh(f"{self.stem}_constant"))
        return self._constants[key]

    def ints(self, *numbers: int) -> ir.Value:
        """A vector of int64."""
        return self.constant(np.asarray(numbers, np.int64))

    def insert_before(self, anchor: ir.Node) -> None:
        """Put what was written in front of `anchor`."""
        self.graph.insert_before(anchor, self.nodes)
        self.nodes = []

    def discard(self) -> None:
        """Forget what was written; its nodes read nothing any more."""
        detach(self.nodes)
        self.nodes = []

    def insert_after(self, anchor: ir.Node) -> None:
        """Put what was written behind `anchor`."""
        self.graph.insert_after(anchor, self.nodes)
        self.nodes = []


def detach(nodes: Iterable[ir.Node]) -> None:
    """Nodes that come into no graph leave no trace among the readers of what they read."""
    for node in nodes:
        for place in range(len(node.inputs)):
            node.replace_input_with(place, None)


def rename_to(old: ir.Value, new: ir.Value) -> None:
    """`new` takes readers, name, roles and the place among graph outputs of `old`, whose node goes or was rewritten."""
    name = old.name
    new.type, new.shape = new.type or old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.metadata_props.update(old.metadata_props)
    old.metadata_props.clear()
    old.name = f"{name}_before"
    new.name = name
