"""The integers that a plan gives to a weight."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array
from qcompiler.numerics import dequantize, quantize
from qcompiler.plan import QuantPlan


def planned_codes(plan: QuantPlan, node: str, index: int, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Those chosen on data where the plan has them, else the nearest."""
    chosen = plan.codes.get(node)
    return chosen if chosen is not None and index == 1 else quantize(array, plan.weights[node][index])


def round_weights_in_place(model: ir.Model, plan: QuantPlan) -> None:
    """Each planned weight becomes the float32 numbers that its codes mean."""
    names = FreshNames(model)
    for node in model.graph:
        for index, quant in plan.weights.get(str(node.name), {}).items():
            array = constant_array(node.inputs[index])
            if array is not None:
                rounded = dequantize(planned_codes(plan, str(node.name), index, array), quant)
                node.replace_input_with(index, add_initializer(model.graph, rounded, names(f"{node.name}/rounded")))
