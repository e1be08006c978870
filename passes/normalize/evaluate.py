"""Evaluation of a single node on constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

_NUMPY: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Sqrt": np.sqrt,
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Where": np.where,
    "Expand": lambda data, shape: np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape))),
}
"""Operators that NumPy rounds the same way; the others go through onnxruntime."""


def evaluate(node: ir.Node, operands: Sequence[Array | None], opset: int) -> list[Array] | None:
    """Outputs of the node; None where no evaluator takes these types."""
    arrays = [operand for operand in operands if operand is not None]
    rule = _NUMPY.get(node.op_type)
    if rule is not None and len(arrays) == len(operands) and all(array.dtype.kind in "fiub" for array in arrays):
        with np.errstate(all="ignore"):
            return [np.asarray(rule(*arrays))]
    return _on_onnxruntime(node, operands, opset)


def _on_onnxruntime(node: ir.Node, operands: Sequence[Array | None], opset: int) -> list[Array] | None:
    from qcompiler.errors import ModelError
    from qcompiler.session import Session

    values: dict[int, ir.Value] = {}
    feeds: dict[str, Array] = {}
    for index, (value, array) in enumerate(zip(node.inputs, operands, strict=True)):
        if value is not None and array is not None and id(value) not in values:
            dtype = value.dtype or ir.tensor(array).dtype
            values[id(value)] = ir.Value(name=f"x{index}", shape=ir.Shape(array.shape), type=ir.TensorType(dtype))
            feeds[f"x{index}"] = array
    inputs = [None if value is None else values[id(value)] for value in node.inputs]
    outputs = [ir.Value(name=f"y{index}", type=value.type) for index, value in enumerate(node.outputs)]
    copy = ir.Node("", node.op_type, inputs, list(node.attributes.values()), outputs=outputs)
    graph = ir.Graph(list(values.values()), outputs, nodes=[copy], opset_imports={"": opset}, name="node")
    try:
        results = Session(ir.Model(graph, ir_version=8), threads=1, optimize=False).run(feeds)
    except (ModelError, RuntimeError, ValueError, TypeError):
        return None
    except Exception as error:  # onnxruntime's own exception types derive from Exception only
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise
    return [results[f"y{index}"] for index in range(len(outputs))]
