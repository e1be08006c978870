"""Vertices and edges of a skeleton."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.diffing.families import COMMUTATIVE, IntegerForm

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
INPUT, OUTPUT = "(input)", "(output)"


@dataclass(slots=True, eq=False)
class Edge:
    """What a vertex reads at one place.

    Attributes:
        source: The vertex it comes from; None for a constant.
        port: Which output of `source`.
        constant: The tensor at the other end where there is no source.
        links: Nodes in between that only change precision, the one next to the reader last.
        value: What the reader reads.
    """

    source: int | None
    port: int
    constant: ir.TensorProtocol | None
    links: tuple[ir.Node, ...]
    value: ir.Value


@dataclass(slots=True, eq=False)
class Vertex:
    """An operator, or an input or output of a graph.

    Attributes:
        family: The operator that it is, or stands for; INPUT and OUTPUT for those of graphs.
        scope: What an input or output belongs to: "" for the model, `function NAME`, or the attribute of a node.
        place: Its position among inputs or outputs.
        owner: The node whose subgraph an input or output belongs to.
        edges: By input of the family; results of subgraphs by (attribute, position).
        readers: (vertex, slot) pairs that read an output, with the output's number.
        operands: Inputs that are constants and count as attributes.
        boundary: Of a node with subgraphs, their inputs and outputs by (attribute, kind, position).
    """

    index: int
    family: str
    node: ir.Node | None = None
    value: ir.Value | None = None
    form: IntegerForm | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    opset: int = 1
    scope: str = ""
    place: int = 0
    owner: int | None = None
    edges: dict[object, Edge] = field(default_factory=dict)
    readers: list[tuple[int, object, int]] = field(default_factory=list)
    operands: frozenset[int] = frozenset()
    boundary: dict[tuple[str, str, int], int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What messages call it."""
        if self.node is None:
            return str(self.value.name) if self.value is not None else self.family
        return self.node.name or f"{self.node.op_type}({self.node.outputs[0].name if self.node.outputs else ''})"

    @property
    def commutes(self) -> bool:
        """Whether the order of its inputs does not matter."""
        return self.family in COMMUTATIVE
