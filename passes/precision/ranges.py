"""The largest magnitude of every float tensor on a few samples, found in one run without keeping the tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.graph import LAYOUT_OPS, is_constant, make_node
from qcompiler.session import Feeds, Session

_CHUNK = 1024  # reductions per session: bounds what an unlucky execution order can keep alive
_RAW_CHUNK = 64
_PASSES = LAYOUT_OPS | {"QuantizeLinear", "DequantizeLinear"}
"""Operators whose result is as large as their first operand (half a quantization step apart); see `origin`."""


def largest_magnitudes(model: ir.Model, samples: Sequence[Feeds]) -> dict[str, float]:
    """Name of each float tensor of the main graph to its largest finite magnitude over `samples`; see `origin`.

    Each tensor is reduced to one number inside the graph. Where onnxruntime refuses that (it can't reduce empty
    tensors), tensors are fetched in small groups. Tensors with infinities are left out: they are masks.

    Raises:
        ModelError: onnxruntime refuses the model itself.
    """
    names = [
        value.name
        for node in model.graph
        if node.op_type not in _PASSES
        for value in node.outputs
        if value.name and value.dtype == ir.DataType.FLOAT and not is_constant(value)
    ]
    largest: dict[str, float] = {}
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        try:
            found = _reduced(model, chunk, samples)
        except ModelError:
            found = list(_fetched(model, chunk, samples))
        for name, size in found:
            if np.isfinite(size):
                largest[name] = max(largest.get(name, 0.0), size)
    return largest


def origin(value: ir.Value) -> ir.Value:
    """The value whose magnitude `value` has: the one before pairs and layout operators."""
    producer = value.producer()
    while producer is not None and producer.op_type in _PASSES and producer.inputs and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return value


def _reduced(model: ir.Model, names: Sequence[str], samples: Sequence[Feeds]) -> list[tuple[str, float]]:
    copy = model.clone()
    wanted, added = set(names), []
    for node in list(copy.graph):
        for value in node.outputs:
            if value.name in wanted:
                size = make_node("Abs", [value], output=f"{value.name}/abs", dtype=value.dtype, shape=None)
                peak = make_node(
                    "ReduceMax", [size.outputs[0]], {"keepdims": 0},
                    output=f"{value.name}/peak", dtype=value.dtype, shape=ir.Shape(()),
                )
                copy.graph.insert_after(node, [size, peak])
                added.append(peak.outputs[0])
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(added)
    session = Session(copy, optimize=False)
    found = []
    for feeds in samples:
        try:
            arrays = session.run(feeds)
        except Exception as error:  # onnxruntime raises many unrelated types
            raise ModelError("onnxruntime cannot reduce every tensor of the model") from error
        found += [(name.removesuffix("/peak"), float(array)) for name, array in arrays.items()]
    return found


def _fetched(model: ir.Model, names: Sequence[str], samples: Sequence[Feeds]) -> Iterable[tuple[str, float]]:
    for start in range(0, len(names), _RAW_CHUNK):
        chunk = set(names[start : start + _RAW_CHUNK])
        session = Session(model, chunk, optimize=False)
        for feeds in samples:
            for name, array in session.run(feeds).items():
                if name in chunk and array.size:
                    yield name, float(np.abs(array).max())
