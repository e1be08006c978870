"""A model as vertices and edges: what computes, and what flows between, with everything that only changes precision
on the edges.

QuantizeLinear and DequantizeLinear with constant scales, Identity, and Casts between float types are links of an edge
and no vertices, so that a graph and its quantized form have the same skeleton. Nodes of subgraphs and functions stand
in the same list as those of the main graph; inputs and outputs of graphs are vertices too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import onnx_ir as ir

from qcompiler.diffing.attributes import attribute_texts
from qcompiler.diffing.constants import constant_of
from qcompiler.diffing.digest import tensor_digest
from qcompiler.diffing.families import family_of, integer_form
from qcompiler.diffing.operands import constant_operands
from qcompiler.diffing.vertex import FLOATS, INPUT, OUTPUT, Edge, Vertex
from qcompiler.passes.precision.types import Types, value_types


class Skeleton:
    """Vertices of a model in an order that depends on neither names nor the order of lists."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.types: Types = value_types(model)
        self.vertices: list[Vertex] = []
        self._made: dict[ir.Value, tuple[int, int]] = {}
        self._digests: dict[int, tuple[ir.TensorProtocol, str]] = {}
        self._opsets = dict(model.opset_imports)
        self._add_graph(model.graph, "", None)
        for function in model.functions.values():
            self._opsets = {**model.opset_imports, **function.opset_imports}
            self._add_graph(function, f"function {function.domain}::{function.name}:{function.overload}", None)
        self._connect()

    @cached_property
    def order(self) -> list[int]:
        """Vertices, each behind what it reads, by a walk from the outputs along the inputs."""
        order: list[int] = []
        seen: set[int] = set()
        roots = [vertex.index for vertex in self.vertices if vertex.family == OUTPUT and vertex.owner is None]
        for root in (*roots, *range(len(self.vertices))):
            stack: list[tuple[int, Iterator[int]]] = []
            if root not in seen:
                seen.add(root)
                stack.append((root, self._sources(root)))
            while stack:
                index, rest = stack[-1]
                following = next((item for item in rest if item not in seen), None)
                if following is None:
                    order.append(index)
                    stack.pop()
                else:
                    seen.add(following)
                    stack.append((following, self._sources(following)))
        return order

    @cached_property
    def rank(self) -> list[int]:
        """Position in `order` by vertex."""
        ranks = [0] * len(self.vertices)
        for position, index in enumerate(self.order):
            ranks[index] = position
        return ranks

    def digest(self, tensor: ir.TensorProtocol) -> str:
        """The tensor's digest, computed once."""
        found = self._digests.get(id(tensor))
        if found is None:
            found = self._digests[id(tensor)] = (tensor, tensor_digest(tensor))  # held, so that its id stays its own
        return found[1]

    def type_of(self, value: ir.Value | None) -> ir.DataType | None:
        """Its element type where known."""
        if value is None:
            return None
        found = self.types.get(value, value.dtype)
        return found if found is not None else None if value.const_value is None else value.const_value.dtype

    def _sources(self, index: int) -> Iterator[int]:
        for edge in self.vertices[index].edges.values():
            if edge.source is not None:
                yield edge.source

    def _add(self, **fields: object) -> Vertex:
        vertex = Vertex(len(self.vertices), **fields)  # type: ignore[arg-type]
        self.vertices.append(vertex)
        return vertex

    def _add_graph(self, graph: ir.Graph | ir.Function, scope: str, owner: Vertex | None) -> None:
        held = None if owner is None else owner.index
        initializers = graph.initializers if isinstance(graph, ir.Graph) else {}
        fed = (value for value in graph.inputs if value.name not in initializers)
        for place, value in enumerate(fed):
            vertex = self._add(family=INPUT, value=value, scope=scope, place=place, owner=held)
            self._made[value] = (vertex.index, 0)
            if owner is not None:
                owner.boundary[scope, INPUT, place] = vertex.index
        for node in graph:
            self._add_node(node)
        for place, value in enumerate(graph.outputs):
            vertex = self._add(family=OUTPUT, value=value, scope=scope, place=place, owner=held)
            if owner is not None:
                owner.boundary[scope, OUTPUT, place] = vertex.index

    def _add_node(self, node: ir.Node) -> None:
        if self.is_link(node) or (node.outputs and constant_of(node.outputs[0]) is not None):
            return
        opset = self._opsets.get(node.domain, 1)
        vertex = self._add(
            family=family_of(node.domain, node.op_type), node=node, form=integer_form(node.domain, node.op_type),
            attributes=attribute_texts(node, opset), opset=opset,
        )  # fmt: skip
        operands = constant_operands(node)
        vertex.operands = frozenset(operands)
        vertex.attributes |= {name: text for name, text in operands.values() if text}
        for port, value in enumerate(node.outputs):
            self._made[value] = (vertex.index, port)
        for name, attribute in node.attributes.items():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.GRAPH:
                self._add_graph(attribute.as_graph(), name, vertex)
            elif attribute.type == ir.AttributeType.GRAPHS:
                for number, graph in enumerate(attribute.as_graphs()):
                    self._add_graph(graph, f"{name}.{number}", vertex)

    def is_link(self, node: ir.Node) -> bool:
        """Whether the node only changes precision: a part of an edge."""
        if node.domain not in ("", "ai.onnx") or not node.inputs or node.inputs[0] is None:
            return False
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return all(value is None or constant_of(value) is not None for value in node.inputs[1:])
        if node.op_type == "Cast":
            source = node.inputs[0].producer()
            summed = source is not None and source.op_type in ("MatMulInteger", "ConvInteger")
            target = node.attributes.get_int("to", 0)
            return target in FLOATS and (summed or self.type_of(node.inputs[0]) in FLOATS)
        return node.op_type == "Identity"

    def _connect(self) -> None:
        for vertex in self.vertices:
            if vertex.node is None:
                if vertex.family == OUTPUT and vertex.value is not None:
                    self._read(vertex, 0, vertex.value)
                continue
            for place, value in enumerate(vertex.node.inputs):
                slot = place if vertex.form is None else vertex.form.data.get(place)
                if value is not None and slot is not None and place not in vertex.operands:
                    self._read(vertex, slot, value)
        for vertex in self.vertices:  # a node also depends on what its subgraphs return
            for key, inner in vertex.boundary.items():
                if key[1] == OUTPUT and vertex.node is not None:
                    value = self.vertices[inner].value
                    assert value is not None
                    vertex.edges[key] = Edge(inner, 0, None, (), value)

    def _read(self, vertex: Vertex, slot: object, value: ir.Value) -> None:
        links: list[ir.Node] = []
        at = value
        while True:
            made = self._made.get(at)
            if made is not None:
                self.vertices[made[0]].readers.append((vertex.index, slot, made[1]))
                vertex.edges[slot] = Edge(made[0], made[1], None, tuple(reversed(links)), value)
                return
            constant = constant_of(at)
            node = at.producer()
            if constant is not None or node is None or not self.is_link(node):
                vertex.edges[slot] = Edge(None, 0, constant, tuple(reversed(links)), value)
                return
            links.append(node)
            assert node.inputs[0] is not None
            at = node.inputs[0]
