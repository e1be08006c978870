"""Zero points, scales and constant codes in the form that NVIDIA's parser takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, is_constant
from qcompiler.pipeline import Outcome, Pass

_HALF_NORMAL: Final = 2.0**-14
_FLOAT_NORMAL: Final = np.float32(2.0**-126)


@dataclass(frozen=True)
class LegalQuantizers(Pass):
    """What becomes what, per QuantizeLinear and DequantizeLinear:

    - An omitted or empty zero point becomes int8 zeros (omitted, QuantizeLinear would mean uint8).
    - A dead channel, one whose codes are all 0, takes the median scale of the others: its value is 0 either way, and
      its own scale may be 0 or too small for float16.
    - Any other scale that is not a normal float32 becomes the smallest normal one.
    - A scalar int8 constant behind DequantizeLinear becomes its float value: the builder can't take rank 0 codes.
    """

    name: ClassVar[str] = "legal-quantizers"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        """Matched are the nodes that changed."""
        fresh = FreshNames(model)
        matched = []
        for node in list(model.graph.all_nodes()):
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                continue
            if _fold_scalar(node, fresh):
                matched.append(node.name or "")
                continue
            changed = [_give_zero_point(node, fresh), _raise_scales(node, fresh)]
            if any(changed):
                matched.append(node.name or "")
        return Outcome(bool(matched), tuple(matched))


def _fold_scalar(node: ir.Node, fresh: FreshNames) -> bool:
    codes, scale, result = node.inputs[0], node.inputs[1], node.outputs[0]
    if node.op_type != "DequantizeLinear" or codes is None or scale is None or node.graph is None:
        return False
    if not is_constant(codes) or not is_constant(scale) or codes.const_value is None or scale.const_value is None:
        return False
    if len(codes.const_value.shape) != 0 or result.is_graph_output():
        return False
    real = np.asarray(codes.const_value.numpy().astype(np.float32) * scale.const_value.numpy()).reshape(())
    graph = node.graph if isinstance(node.graph, ir.Graph) else node.graph.graph
    constant = add_initializer(graph, real, fresh(f"{result.name}_real"), scale.dtype)
    result.replace_all_uses_with(constant)
    graph.remove(node, safe=True)
    return True


def _give_zero_point(node: ir.Node, fresh: FreshNames) -> bool:
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return False
    codes = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    scale = node.inputs[1]
    if codes is None or codes.dtype not in (None, ir.DataType.INT8) or scale is None or scale.const_value is None:
        return False
    assert scale.graph is not None
    shape = scale.const_value.shape.numpy()
    zeros = add_initializer(_graph(scale), np.zeros(shape, np.int8), fresh(f"{codes.name}_zero"))
    node.resize_inputs(3)
    node.replace_input_with(2, zeros)
    return True


def _raise_scales(node: ir.Node, fresh: FreshNames) -> bool:
    scale = node.inputs[1]
    if scale is None or not is_constant(scale) or scale.const_value is None or scale.dtype != ir.DataType.FLOAT:
        return False
    values = scale.const_value.numpy()
    if not values.size or float(values.min()) >= _HALF_NORMAL:
        return False
    raised = _without_dead_channels(node, values)
    raised = np.where(raised >= _FLOAT_NORMAL, raised, _FLOAT_NORMAL).astype(np.float32)
    if np.array_equal(raised, values):
        return False
    node.replace_input_with(1, add_initializer(_graph(scale), raised, fresh(f"{scale.name}_raised")))
    return True


def _without_dead_channels(node: ir.Node, scale: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    codes = node.inputs[0]
    if node.op_type != "DequantizeLinear" or codes is None or codes.const_value is None or scale.ndim > 1:
        return scale
    array = codes.const_value.numpy()
    if scale.ndim == 1 and scale.size == array.shape[axis := node.attributes.get_int("axis", 1) % array.ndim]:
        dead = ~np.any(array, axis=tuple(place for place in range(array.ndim) if place != axis))
    else:
        dead = np.full(scale.shape, not np.any(array))
    live = scale[~dead]
    return np.where(dead, np.median(live) if live.size else np.float32(1.0), scale).astype(np.float32)


def _graph(value: ir.Value) -> ir.Graph:
    graph = value.graph
    assert graph is not None
    return graph if isinstance(graph, ir.Graph) else graph.graph
