"""A depthwise convolution that gives a single place is a product and a sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, all_nodes, constant_array
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class SumSinglePlaces(Pass):
    """Conv of [B, C, K] with C filters [C, 1, K], without padding, becomes the sum over K of x w, plus the bias.

    That is the convolution of one token behind its past (one-step graphs of state-space models). onnxruntime prepares
    a depthwise Conv for every channel and call; the product and the sum are two kernels.
    """

    name: ClassVar[str] = "sum-single-places"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        fresh = FreshNames(model)
        for node in list(all_nodes(model)):
            graph = node.graph
            if node.op_type != "Conv" or node.domain != "" or not isinstance(graph, ir.Graph) or not _is_single(node):
                continue
            weight = constant_array(node.inputs[1])
            bias = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
            if weight is None or (len(node.inputs) > 2 and bias is None):
                continue
            make = Builder(graph, fresh, str(node.outputs[0].name))
            product = make.op("Mul", node.inputs[0], np.ascontiguousarray(weight[:, 0]))
            total = make.op("ReduceSum", product, make.ints(2), keepdims=1)
            if bias is not None:
                total = make.op("Add", total, np.ascontiguousarray(bias[:, None]))
            for made in make.nodes:
                made.metadata_props.update(node.metadata_props)
            make.insert_before(node)
            matched.append(str(node.outputs[0].name))
            rename_to(node.outputs[0], total)
            graph.remove(node, safe=True)
        return Outcome(bool(matched), tuple(matched))


def _is_single(node: ir.Node) -> bool:
    """Whether each filter lies on all of its channel, once."""
    data, weight = node.inputs[0], constant_array(node.inputs[1])
    if data is None or weight is None or data.shape is None or weight.ndim != 3 or len(data.shape) != 3:
        return False
    channels, inner, width = weight.shape
    ints = {name: list(node.attributes[name].as_ints()) for name in ("pads", "dilations") if name in node.attributes}
    padded = any(ints.get("pads", ())) or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    fits = data.shape[2] == width and data.shape[1] == channels and inner == 1
    return fits and node.attributes.get_int("group", 1) == channels and not padded and ints.get("dilations", [1]) == [1]
