"""int8 activation codes with zero point z -> uint8 codes with zero point z + 128, on the same grid and scale.

onnxruntime's x86 kernels take unsigned activations; signed ones run an order of magnitude slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.operands import OFFSET
from qcompiler.graph import FreshNames, add_initializer, constant_array, is_constant
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class UnsignedActivations(Pass):
    """Edit each QuantizeLinear of int8, the operators that move its codes, and the DequantizeLinears behind."""

    name: ClassVar[str] = "unsigned-activations"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        graph = model.graph
        names = FreshNames(model)
        zeros: dict[tuple[tuple[int, ...], int], ir.Value] = {}
        bounds: dict[int, ir.Value] = {}
        matched, skipped = [], []

        def zero_point(old: ir.Value) -> ir.Value:
            array = constant_array(old)
            shape, zero = ((), 0) if array is None else (array.shape, int(array.reshape(-1)[0]))
            if (shape, zero) not in zeros:
                unsigned = np.full(shape, OFFSET + zero, np.uint8)
                zeros[shape, zero] = add_initializer(graph, unsigned, names("uint8_zero_point"))
            return zeros[shape, zero]

        def bound(old: ir.Value | None) -> ir.Value:
            array = constant_array(old)
            assert array is not None  # `_trace_codes` follows no other bounds
            code = int(array) + OFFSET
            if code not in bounds:
                bounds[code] = add_initializer(graph, np.asarray(code, np.uint8), names(f"uint8_{code}"))
            return bounds[code]

        for node in graph:
            if node.op_type != "QuantizeLinear" or len(node.inputs) < 3 or node.outputs[0].dtype != ir.DataType.INT8:
                continue
            old = constant_array(node.inputs[2])
            if old is None or (old != old.reshape(-1)[0]).any():
                skipped.append(Skip(str(node.name), "the zero point is not one constant number"))
                continue
            moved, readers = _trace_codes(node.outputs[0])
            if readers is None:
                skipped.append(Skip(str(node.name), "its codes leave the graph or reach an operator other than Q/DQ"))
                continue
            node.replace_input_with(2, zero_point(node.inputs[2]))  # type: ignore[arg-type]
            for reader in readers:
                reader.replace_input_with(2, zero_point(reader.inputs[2]))  # type: ignore[arg-type]
            for value in moved:
                clip = value.producer()
                if clip is not None and clip.op_type == "Clip":
                    for index in (1, 2):
                        clip.replace_input_with(index, bound(clip.inputs[index]))
                value.type = ir.TensorType(ir.DataType.UINT8)  # a new object: clones share types
            matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


_MOVES_CODES = frozenset(
    {"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Expand", "MaxPool"}
)


def _keeps_codes(node: ir.Node, codes: ir.Value) -> bool:
    """Whether the node moves codes, or keeps them within constant bounds (a grid narrower than its container)."""
    clips = node.op_type == "Clip" and len(node.inputs) == 3 and all(map(is_constant, node.inputs[1:]))
    return node.graph is codes.graph and (clips or node.op_type in _MOVES_CODES)


def _trace_codes(codes: ir.Value) -> tuple[list[ir.Value], list[ir.Node] | None]:
    """All values that hold these codes, and the DequantizeLinears that end them; None where they end elsewhere."""
    values, readers, queue = [codes], [], [codes]
    while queue:
        value = queue.pop()
        if value.is_graph_output():
            return values, None
        for use in value.uses():
            if use.node.op_type == "DequantizeLinear" and use.idx == 0 and len(use.node.inputs) > 2:
                readers.append(use.node)
            elif use.idx == 0 and _keeps_codes(use.node, codes):
                values.append(use.node.outputs[0])
                queue.append(use.node.outputs[0])
            else:
                return values, None
    return values, readers
