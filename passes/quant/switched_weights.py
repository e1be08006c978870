"""Weights that are rounded where the switch of their node is on: w -> Where(switch, rounded w, w)."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from qcompiler.graph import FreshNames, make_node
from qcompiler.passes.quant.planned_weights import round_weights_in_place
from qcompiler.plan import QuantPlan


def switch_weights(model: ir.Model, plan: QuantPlan, switches: Mapping[str, str]) -> None:
    """Both forms of every planned weight are held as floats: twice the room, and no kernel packs them beforehand.

    Args:
        switches: Node to the graph input that is its switch.
    """
    graph = model.graph
    inputs = {str(value.name): value for value in graph.inputs}
    before = {node.name: tuple(node.inputs) for node in graph if node.name in switches}
    round_weights_in_place(model, plan)
    names = FreshNames(model)
    for node in list(graph):
        for index, (old, new) in enumerate(zip(before.get(node.name, ()), node.inputs, strict=False)):
            if old is new or old is None or new is None:
                continue
            switch = inputs[switches[str(node.name)]]
            output = names(f"{node.name}/weight_{index}")
            where = make_node("Where", [switch, new, old], output=output, dtype=new.dtype, shape=new.shape)
            graph.insert_before(node, where)
            node.replace_input_with(index, where.outputs[0])
