"""GatherND over one axis is a Gather, which everything behind knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class PlainGather(Pass):
    """GatherND(x, indices [.., 1])   becomes   Gather<axis = 0>(x, indices [..]).

    torch's dynamo exporter writes x[:, :, [k]] so, between two Transposes (the keys of a multi-query attention), and
    rows of a table of positions. Computed indices get a Squeeze.
    """

    name: ClassVar[str] = "plain-gather"

    def run(self, model: ir.Model) -> Outcome:
        names, matched = FreshNames(model), []
        for node in model.graph.all_nodes():
            if node.op_type != "GatherND" or node.domain != "" or node.attributes.get_int("batch_dims", 0) != 0:
                continue
            places = node.inputs[1]
            if places is None or places.shape is None or not len(places.shape) or places.shape[-1] != 1:
                continue
            node.replace_input_with(1, _squeezed(model, node, places, names))
            node.op_type = "Gather"
            node.attributes.clear()
            node.attributes["axis"] = ir.AttrInt64("axis", 0)
            matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched))


def _squeezed(model: ir.Model, node: ir.Node, places: ir.Value, names: FreshNames) -> ir.Value:
    """The indices without their last axis."""
    name, array = names(f"{node.outputs[0].name}_indices"), constant_array(places)
    if array is not None:
        return add_initializer(model.graph, array[..., 0], name)
    assert places.shape is not None and isinstance(node.graph, ir.Graph)
    axes = add_initializer(model.graph, np.array([-1], np.int64), names(f"{name}_axes"))
    shape = ir.Shape(list(places.shape)[:-1])
    squeeze = make_node("Squeeze", [places, axes], output=name, dtype=places.dtype, shape=shape)
    node.graph.insert_before(node, squeeze)
    return squeeze.outputs[0]
