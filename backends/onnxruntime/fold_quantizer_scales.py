"""A constant times what is quantized -> another scale of the quantizer: Q(x * c, s) = Q(x, s / c).

Exporters write attention's 1 / sqrt(size) on the queries, or its root on queries and keys. DequantizeLinear keeps s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.fold_product_scales import positive_factor
from qcompiler.graph import LAYOUT_OPS, FreshNames, add_initializer, constant_array
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class FoldQuantizerScales(Pass):
    """Mul or Div by a positive constant number that only QuantizeLinears read, past layout operators.

    Codes differ by one where rounding x * c and rounding s / c fall on two sides of a tie.
    """

    name: ClassVar[str] = "fold-quantizer-scales"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        names = FreshNames(model)
        matched, skipped = [], []
        for node in list(model.graph):
            if node.op_type not in ("Mul", "Div") or node.domain not in ("", "ai.onnx"):
                continue
            found = _data_and_factor(node)
            if found is None:
                continue
            data, factor = found
            quantizers = _quantizers(node.outputs[0])
            if not quantizers:
                continue
            scales = [constant_array(item.inputs[1]) for item in quantizers]
            if any(scale is None or scale.size != 1 for scale in scales):
                skipped.append(Skip(str(node.name), "a quantizer's scale is not one constant number"))
                continue
            for quantizer, scale in zip(quantizers, scales, strict=True):
                assert scale is not None
                changed = np.asarray(scale / factor, scale.dtype)
                value = add_initializer(model.graph, changed, names(f"{quantizer.name}/scale"))
                quantizer.replace_input_with(1, value)
            node.outputs[0].replace_all_uses_with(data)
            model.graph.remove(node, safe=True)
            matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _data_and_factor(node: ir.Node) -> tuple[ir.Value, np.float32] | None:
    """What is multiplied, in the type and rank of the result, and by what."""
    for value in node.inputs:
        factor = None if value is None else positive_factor(node, value)
        if value is not None and factor is not None and value.dtype == ir.DataType.FLOAT:
            return value, factor
    return None


def _quantizers(value: ir.Value) -> list[ir.Node]:
    """The QuantizeLinears that read a value, past layout operators; none where anything else reads it."""
    found: list[ir.Node] = []
    queue = [value]
    while queue:
        current = queue.pop()
        if current.is_graph_output():
            return []
        for use in current.uses():
            if use.node.op_type == "QuantizeLinear" and use.idx == 0:
                found.append(use.node)
            elif use.node.op_type in LAYOUT_OPS and use.idx == 0:
                queue.append(use.node.outputs[0])
            else:
                return []
    return found
