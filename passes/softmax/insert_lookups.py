"""A lookup in front of the pair of a tensor, or of the products that read it, by the plan.

    x -> QuantizeLinear(top / 255, -128) -> Cast(int32) -> Add(offsets) -> Gather(table) -> what the readers read

The Add moves codes to rows of the table: 128 where all heads share one, 128 + 256 row[head] otherwise. No Tan and no
Atan runs. In the integer form the table's entries lie on the grid of the pair behind, which then rounds nothing away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, SharedConstants, make_node
from qcompiler.lookup import NODE_KEY, STEPS, Lookup
from qcompiler.passes.softmax.tables import table_of
from qcompiler.pipeline import Outcome, Pass, Skip
from qcompiler.plan import QuantPlan

OFFSET = 128
"""From the smallest int8 code to 0."""


@dataclass(frozen=True)
class InsertLookups(Pass):
    """Runs behind `insert-qdq`. Equal tables, offsets and scales are one initializer, whatever layers share them."""

    name: ClassVar[str] = "insert-lookups"
    keeps_float: ClassVar[bool] = False
    plan: QuantPlan = field(default_factory=QuantPlan, repr=False)

    def run(self, model: ir.Model) -> Outcome:
        names = FreshNames(model)
        constant = SharedConstants(model.graph, names)
        matched, skipped = [], []
        values = _values(model.graph) if self.plan.lookups else {}
        for tensor, lookup in self.plan.lookups.items():
            value = values.get(tensor)
            uses = [] if value is None else _uses(value, lookup)
            if value is None:
                skipped.append(Skip(tensor, "the graph has no such tensor"))
            elif not uses:
                skipped.append(Skip(tensor, "nothing that takes levels reads it"))
            else:
                looked_up = _insert(model.graph, value, lookup, self.plan, names, constant)
                for use in uses:
                    use.node.replace_input_with(use.idx, looked_up)
                matched.append(tensor)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))

    def meant_for(self, model: ir.Model) -> bool:
        return bool(self.plan.lookups)


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    return {str(value.name): value for node in graph for value in node.outputs}


def _uses(value: ir.Value, lookup: Lookup) -> list[Any]:
    """Usages by what takes levels: the pair's quantizer, or in the float form products."""
    wanted = "QuantizeLinear" if lookup.form == "integer" else "MatMul"
    found = [use for use in value.uses() if use.node.op_type == wanted and use.idx == 0]
    return [use for use in found if use.node.graph is value.graph and not indexes(use.node)]


def indexes(node: ir.Node) -> bool:
    """Whether this is a fine grid of our own: its codes are cast, not dequantized."""
    return any(reader.op_type == "Cast" for reader in node.outputs[0].consumers())


def _insert(
    graph: ir.Graph, value: ir.Value, lookup: Lookup, plan: QuantPlan, names: FreshNames, constant: SharedConstants
) -> ir.Value:
    table = table_of(lookup, plan.tensors.get(str(value.name)) if lookup.form == "integer" else None)
    carrier = value.dtype or ir.DataType.FLOAT
    rows = np.asarray(table.rows, np.int32)
    offsets = OFFSET + (STEPS + 1) * (rows.reshape(-1, 1, 1) if len(table.entries) > 1 else rows[0])
    scale = constant(np.asarray(lookup.top / STEPS, carrier.numpy()), "softmax_step")
    zero = constant(np.asarray(-OFFSET, np.int8), "softmax_zero_point")
    kinds = "_".join(dict.fromkeys(f"{item.kind}{item.bits}" for item in lookup.heads))
    entries = constant(table.entries.reshape(-1).astype(carrier.numpy()), f"softmax_table_{kinds}")
    base, int32 = str(value.name), ir.DataType.INT32

    def node(op: str, inputs: list[ir.Value | None], suffix: str, dtype: ir.DataType, **attributes: int) -> ir.Node:
        return make_node(op, inputs, attributes, output=names(f"{base}_{suffix}"), dtype=dtype, shape=value.shape)

    quantize = node("QuantizeLinear", [value, scale, zero], "fine", ir.DataType.INT8)
    cast = node("Cast", [quantize.outputs[0]], "codes", int32, to=int(int32))
    add = node("Add", [cast.outputs[0], constant(np.asarray(offsets, np.int32), "softmax_rows")], "index", int32)
    gather = node("Gather", [entries, add.outputs[0]], "levels", carrier, axis=0)
    gather.metadata_props[NODE_KEY] = base
    maker = value.producer()
    assert maker is not None  # `_values` are outputs of nodes
    graph.insert_after(maker, [quantize, cast, add, gather])
    return gather.outputs[0]
