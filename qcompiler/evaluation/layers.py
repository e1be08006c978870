"""Which inner values a comparison shows layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.plan import QuantPlan


def layer_outputs(model: ir.Model, plan: QuantPlan) -> list[str]:
    """Outputs of the quantized nodes, and of the bias Add behind each, in graph order: where error arises.

    Where a zero point may go into the bias behind a product, the product alone is off by a constant and is left out.
    """
    names = []
    for node in model.graph:
        if node.name in plan.nodes:
            uses = tuple(node.outputs[0].uses())
            biased = len(uses) == 1 and uses[0].node.op_type == "Add"
            if not (biased and _reads_zero_point(node, plan)):
                names.append(str(node.outputs[0].name))
            if biased:
                names.append(str(uses[0].node.outputs[0].name))
    return names


def _reads_zero_point(node: ir.Node, plan: QuantPlan) -> bool:
    read = (node.inputs[index] for index in plan.nodes[str(node.name)] if index < len(node.inputs))
    quants = (plan.tensors.get(str(value.name)) for value in read if value is not None)
    return any(quant is not None and not quant.scheme.symmetric for quant in quants)
