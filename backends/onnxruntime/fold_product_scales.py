"""A product times a constant -> a product of a scaled operand: MatMulIntegerToFloat(a, b, sa) * c = (a, b, sa * c).

Attention divides Q K^T by the root of the head size; the integer product rescales its sums anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.lower_products import MICROSOFT
from qcompiler.graph import FreshNames, add_initializer, constant_array, scalar_constant, sole_consumer
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class FoldProductScales(Pass):
    """Mul or Div by a positive constant number right behind an integer product without a bias."""

    name: ClassVar[str] = "fold-product-scales"

    def run(self, model: ir.Model) -> Outcome:
        names = FreshNames(model)
        matched, skipped = [], []
        for node in list(model.graph):
            if node.op_type != "MatMulIntegerToFloat" or node.domain != MICROSOFT:
                continue
            follower = sole_consumer(node.outputs[0])
            if follower is None or follower.op_type not in ("Mul", "Div") or follower.graph is not node.graph:
                continue
            factor = positive_factor(follower, node.outputs[0])
            scale = constant_array(node.inputs[2])
            if factor is None or scale is None:
                continue
            if len(node.inputs) > 6 and node.inputs[6] is not None:
                skipped.append(Skip(str(node.name), "the product has a bias"))
                continue
            value = add_initializer(model.graph, np.asarray(scale * factor, np.float32), names(f"{node.name}/scale"))
            node.replace_input_with(2, value)
            ir.convenience.replace_nodes_and_values(
                model.graph, follower, [follower], [], [follower.outputs[0]], [node.outputs[0]]
            )
            matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def positive_factor(node: ir.Node, product: ir.Value) -> np.float32 | None:
    """What a Mul or Div multiplies `product` by: a positive scalar that changes neither shape nor rank; else None."""
    other = next((value for value in node.inputs if value is not product), None)
    number = scalar_constant(other)
    array = constant_array(other)
    if number is None or array is None or number <= 0 or not np.isfinite(number):
        return None
    if array.ndim > (len(product.shape) if product.shape is not None else 0):
        return None
    if node.op_type == "Mul":
        return np.float32(number)
    return np.float32(1 / number) if node.inputs[0] is product else None
