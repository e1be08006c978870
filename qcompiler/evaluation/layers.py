"""Which inner values a comparison shows layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.plan import QuantPlan


def layer_outputs(model: ir.Model, plan: QuantPlan) -> list[str]:
    """Outputs of the quantized nodes, and of the bias Add behind each, in graph order: where error arises."""
    names = []
    for node in model.graph:
        if node.name in plan.nodes:
            names.append(str(node.outputs[0].name))
            uses = tuple(node.outputs[0].uses())
            if len(uses) == 1 and uses[0].node.op_type == "Add":
                names.append(str(uses[0].node.outputs[0].name))
    return names
