"""How large the integers that a graph input feeds to Gather may be."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph import constant_array

_FORWARD = frozenset(
    {
        *("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand"),
        *("Slice", "Concat", "Split", "Gather", "Where", "Clip", "Max", "Min", "Mul"),
    }
)
_GATHERS = frozenset({"Gather", "GatherElements", "EmbeddingBag"})


def index_bound(source: ir.Value) -> int | None:
    """The smallest number of rows among the tables that `source` indexes; None where it indexes none.

    Follows operators that pass integers on, and goes into subgraphs: captured values by their uses, carried ones
    through the inputs of Loop and Scan bodies.
    """
    bound: int | None = None
    seen: set[int] = set()
    waiting = [source]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        for node, position in value.uses():
            if node.op_type in _GATHERS and position == 1:
                rows = _rows(node)
                if rows is not None:
                    bound = rows if bound is None else min(bound, rows)
            elif node.op_type in _FORWARD:
                waiting.extend(node.outputs)
            elif node.op_type in ("Loop", "Scan"):
                waiting.extend(_body_input(node, position))
    return bound


def _rows(node: ir.Node) -> int | None:
    table, attribute = node.inputs[0], node.attributes.get("axis")
    axis = int(attribute.as_int()) if attribute is not None else 0
    content = constant_array(table)
    if content is not None:
        return int(content.shape[axis]) if content.ndim else None
    if table is None or table.shape is None or not len(table.shape):
        return None
    rows = table.shape[axis]
    return rows if isinstance(rows, int) else None


def _body_input(node: ir.Node, position: int) -> list[ir.Value]:
    body = node.attributes["body"].as_graph()
    return [body.inputs[position]] if position < len(body.inputs) else []
