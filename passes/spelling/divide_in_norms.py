"""RMSNorm with a division."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import all_nodes, sole_consumer
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class DivideInNorms(Pass):
    """x * Reciprocal(Sqrt(mean(x^2) + eps)) becomes x / Sqrt(mean(x^2) + eps).

    onnxruntime fuses Pow, ReduceMean, Add, Sqrt, Div, Mul into one kernel when it loads a graph, and the same with a
    Reciprocal not (SimplifiedLayerNormFusion, 1.31).
    """

    name: ClassVar[str] = "divide-in-norms"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        for node in list(all_nodes(model)):
            if node.op_type != "Reciprocal" or node.domain != "" or not _is_root_of_mean(node.inputs[0]):
                continue
            product = sole_consumer(node.outputs[0])
            if product is None or product.op_type != "Mul" or node.graph is not product.graph:
                continue
            place = 0 if product.inputs[0] is node.outputs[0] else 1
            data, root = product.inputs[1 - place], node.inputs[0]
            if data is None or data is node.outputs[0]:
                continue
            product.op_type = "Div"
            product.replace_input_with(0, data)
            product.replace_input_with(1, root)
            assert node.graph is not None
            node.graph.remove(node, safe=True)
            matched.append(str(product.outputs[0].name))
        return Outcome(bool(matched), tuple(matched))


def _is_root_of_mean(value: ir.Value | None) -> bool:
    """Sqrt(ReduceMean(...) + eps)."""
    root = None if value is None else value.producer()
    total = root.inputs[0].producer() if root is not None and root.op_type == "Sqrt" and root.inputs[0] else None
    if total is None or total.op_type != "Add":
        return False
    return any(item is not None and (made := item.producer()) is not None and made.op_type == "ReduceMean"
               for item in total.inputs)  # fmt: skip
