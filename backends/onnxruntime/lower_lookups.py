"""Lookups of levels to bytes: codes of uint8 index the table, and the table holds the codes of the grid behind.

    Q(int8, -128) -> Cast -> Add(128 + rows) -> Gather(float table) -> Q(s, z) -> DQ
        ->  Q(uint8, 0) -> Cast [-> Add(rows)] -> Gather(Q(table)) -> DQ

The same numbers: quantizing each entry once gives what quantizing each looked up value gives. A table that a float
operator reads stays float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.operands import OFFSET
from qcompiler.graph import FreshNames, SharedConstants, constant_array, make_node, sole_consumer
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class LowerLookups(Pass):
    """Every Gather from a constant vector whose index is quantized, cast and moved; behind `unsigned-activations`."""

    name: ClassVar[str] = "lower-lookups"
    keeps_float: ClassVar[bool] = False

    def run(self, model: ir.Model) -> Outcome:
        names = FreshNames(model)
        constant = SharedConstants(model.graph, names)
        matched, skipped = [], []
        for node in list(model.graph):
            chain = _chain(node)
            if chain is None:
                continue
            quantize, add, rows = chain
            _index_by_bytes(model.graph, quantize, add, rows, constant)
            if not _fold_grid(model.graph, node, names, constant):
                skipped.append(Skip(str(node.name), "its levels are read as floats"))
            matched.append(str(node.name))
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _chain(gather: ir.Node) -> tuple[ir.Node, ir.Node, np.ndarray[tuple[int, ...], np.dtype[np.int32]]] | None:
    """QuantizeLinear, Add and the Add's constant in front of a lookup; None for any other node."""
    if gather.op_type != "Gather" or gather.domain or (constant_array(gather.inputs[0]) is None):
        return None
    add = gather.inputs[1].producer() if gather.inputs[1] is not None else None
    cast = add.inputs[0].producer() if add is not None and add.op_type == "Add" and add.inputs[0] is not None else None
    quantize = cast.inputs[0].producer() if cast is not None and cast.op_type == "Cast" and cast.inputs[0] else None
    if add is None or cast is None or quantize is None:
        return None
    if quantize.op_type != "QuantizeLinear" or len(quantize.inputs) < 3:
        return None
    rows, zero = constant_array(add.inputs[1]), constant_array(quantize.inputs[2])
    if rows is None or zero is None or zero.dtype != np.int8 or zero.size != 1 or int(zero) != -OFFSET:
        return None
    if any(sole_consumer(item.outputs[0]) is None for item in (quantize, cast, add)):
        return None
    return quantize, add, rows


def _index_by_bytes(
    graph: ir.Graph, quantize: ir.Node, add: ir.Node, rows: np.ndarray[tuple[int, ...], np.dtype[np.int32]],
    constant: SharedConstants,
) -> None:  # fmt: skip
    moved = rows - OFFSET
    quantize.replace_input_with(2, constant(np.zeros((), np.uint8), "uint8_zero_point"))
    quantize.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    if moved.any():
        add.replace_input_with(1, constant(moved, "softmax_rows"))
        return
    cast = add.inputs[0]
    assert cast is not None
    add.outputs[0].replace_all_uses_with(cast)
    graph.remove(add, safe=True)


def _fold_grid(graph: ir.Graph, gather: ir.Node, names: FreshNames, constant: SharedConstants) -> bool:
    """Quantize the table in place of what is looked up; False where something else reads the levels."""
    quantize = sole_consumer(gather.outputs[0])
    if quantize is None or quantize.op_type != "QuantizeLinear" or len(quantize.inputs) < 3:
        return False
    table, scale, zero = (constant_array(value) for value in (gather.inputs[0], *quantize.inputs[1:3]))
    if table is None or scale is None or zero is None or scale.size != 1:
        return False
    limits = np.iinfo(zero.dtype)
    codes = np.clip(np.rint(table / scale) + zero.astype(np.float32), limits.min, limits.max).astype(zero.dtype)
    wish = f"{gather.inputs[0].name}_codes" if gather.inputs[0] is not None else "softmax_codes"
    output, old = quantize.outputs[0], gather.outputs[0]
    lookup = make_node(
        "Gather", [constant(codes, wish), gather.inputs[1]], {"axis": 0},
        output=names(f"{old.name}_codes"), dtype=output.dtype, shape=old.shape,
    )  # fmt: skip
    lookup.metadata_props.update(gather.metadata_props)
    graph.insert_before(quantize, lookup)
    output.replace_all_uses_with(lookup.outputs[0])
    graph.remove([quantize, gather], safe=True)
    return True
