"""uint8 inputs are cast before they are moved: TensorRT takes uint8 at the border only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, FreshNames, make_node
from qcompiler.pipeline import Outcome, Pass, Skip

_MOVES = LAYOUT_OPS | {"Slice", "Gather", "Split", "Expand", "DepthToSpace", "SpaceToDepth", "Tile"}
_READS = frozenset({"Cast", "Shape", "Size"})


@dataclass(frozen=True)
class WidenBytes(Pass):
    """input (uint8) -> Transpose, Slice -> Cast   becomes   input -> Cast to int32 -> Transpose, Slice -> Cast

    Every uint8 is an int32, so the last Cast gives the same. An input stays where it reaches another operator or an
    output as uint8 (`lint` names the place), and where a Cast is all that reads it.
    """

    name: ClassVar[str] = "widen-bytes"

    def run(self, model: ir.Model) -> Outcome:
        fresh = FreshNames(model)
        matched: list[str] = []
        skipped: list[Skip] = []
        for value in model.graph.inputs:
            if value.dtype != ir.DataType.UINT8 or all(node.op_type == "Cast" for node, _ in value.uses()):
                continue
            moved: list[ir.Value] = []
            stray = next(_strays(value, moved, model.graph), None)
            if stray is not None:
                skipped.append(Skip(str(value.name), stray))
                continue
            _widen(value, moved, model.graph, fresh(f"{value.name}_int32"))
            matched.append(str(value.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _strays(source: ir.Value, moved: list[ir.Value], graph: ir.Graph) -> Iterator[str]:
    """Uses that cannot read int32; everything that holds the input's elements is added to `moved`."""
    open_values, seen = [source], {source}
    while open_values:
        value = open_values.pop()
        if value is not source:
            moved.append(value)
        if value.is_graph_output():
            yield f"{value.name} is returned as uint8"
        for node, index in value.uses():
            if node.op_type in _READS:
                continue
            if node.op_type not in _MOVES or index != 0 or node.graph is not graph:
                yield f"{node.op_type} reads it as uint8"
                continue
            new = [output for output in node.outputs if output not in seen]
            seen.update(new)
            open_values.extend(new)


def _widen(source: ir.Value, moved: list[ir.Value], graph: ir.Graph, name: str) -> None:
    uses = [use for use in source.uses() if use.node.op_type != "Cast"]
    cast = make_node(
        "Cast", [source], {"to": int(ir.DataType.INT32)}, output=name, dtype=ir.DataType.INT32, shape=source.shape
    )
    if len(graph):
        graph.insert_before(graph[0], cast)
    else:
        graph.append(cast)
    for node, index in uses:
        node.replace_input_with(index, cast.outputs[0])
    for value in moved:
        value.type = ir.TensorType(ir.DataType.INT32)
