"""Pairs move below layout operators, so that each DequantizeLinear feeds its consumer directly.

TensorRT's builder for SM 8.7 fails on DequantizeLinear before Reshape, Transpose or Slice (NVIDIA/TensorRT#4832) where
other architectures build. One scale for the whole tensor makes the move exact: rounding is elementwise and these
operators only rearrange.

    x -> Q -> DQ -> Transpose -> MatMul    becomes    x -> Transpose -> Q -> DQ -> MatMul
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import onnx_ir as ir

from qcompiler.graph import FreshNames, constant_array, make_node
from qcompiler.pipeline import Outcome, Pass

LAYOUT: Final = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Identity"})


@dataclass(frozen=True)
class PushPairsBelowLayout(Pass):
    """See the module. Matched are the layout operators that a pair passed."""

    name: ClassVar[str] = "push-pairs-below-layout"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        """Each pair is moved as far as it goes; a pair whose reader returns an output stays."""
        fresh = FreshNames(model)
        front = [node for node in model.graph.all_nodes() if _is_activation_pair(node)]
        matched: list[str] = []
        while front:
            dequantize = front.pop()
            quantize = dequantize.inputs[0].producer() if dequantize.inputs[0] is not None else None
            if quantize is None:
                continue
            for reader in [use.node for use in dequantize.outputs[0].uses() if use.idx == 0]:
                if reader.op_type not in LAYOUT or reader.domain or reader.graph is not dequantize.graph:
                    continue
                if reader.outputs[0].is_graph_output():
                    continue
                front.append(_move(quantize, dequantize, reader, fresh))
                matched.append(reader.name or reader.op_type)
            _drop_if_unused(dequantize)
            _drop_if_unused(quantize)
        return Outcome(bool(matched), tuple(matched))


def _is_activation_pair(node: ir.Node) -> bool:
    if node.op_type != "DequantizeLinear" or node.inputs[0] is None or node.inputs[1] is None:
        return False
    quantize = node.inputs[0].producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.graph is not node.graph:
        return False
    scale = constant_array(node.inputs[1])
    return scale is not None and scale.size == 1


def _move(quantize: ir.Node, dequantize: ir.Node, layout: ir.Node, fresh: FreshNames) -> ir.Node:
    """The new DequantizeLinear behind `layout`."""
    layout.replace_input_with(0, quantize.inputs[0])
    moved, codes, real = layout.outputs[0], quantize.outputs[0], dequantize.outputs[0]
    again = make_node(
        "QuantizeLinear", [moved, *quantize.inputs[1:]], dict(quantize.attributes),
        output=fresh(f"{moved.name}_q"), dtype=codes.dtype, shape=moved.shape,
    )
    back = make_node(
        "DequantizeLinear", [again.outputs[0], *dequantize.inputs[1:]], dict(dequantize.attributes),
        output=fresh(f"{moved.name}_dq"), dtype=real.dtype, shape=moved.shape,
    )
    moved.replace_all_uses_with(back.outputs[0])
    again.replace_input_with(0, moved)
    assert layout.graph is not None
    layout.graph.insert_after(layout, [again, back])
    return back


def _drop_if_unused(node: ir.Node) -> None:
    if node.graph is not None and not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
        node.graph.remove(node, safe=True)
