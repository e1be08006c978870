"""The only place of an axis is taken by Squeeze."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import FreshNames, all_nodes, constant_array
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class GatherToSqueeze(Pass):
    """Gather(x, 0, axis) with a scalar index, of an axis that is 1 long, becomes Squeeze(x, axis).

    Exporters write x[..., 0] that way; the rewrites of scans know that Squeeze moves elements and no more.
    """

    name: ClassVar[str] = "gather-to-squeeze"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        fresh = FreshNames(model)
        for node in list(all_nodes(model)):
            graph, data = node.graph, node.inputs[0] if node.inputs else None
            if node.op_type != "Gather" or node.domain != "" or not isinstance(graph, ir.Graph):
                continue
            index = constant_array(node.inputs[1])
            if index is None or index.ndim or int(index) not in (0, -1) or data is None or data.shape is None:
                continue
            axis = node.attributes.get_int("axis", 0) % max(len(data.shape), 1)
            if data.shape[axis] != 1:
                continue
            make = Builder(graph, fresh, str(node.outputs[0].name))
            made = make.op("Squeeze", data, make.ints(axis))
            make.insert_before(node)
            matched.append(str(node.outputs[0].name))
            rename_to(node.outputs[0], made)
            graph.remove(node, safe=True)
        return Outcome(bool(matched), tuple(matched))
