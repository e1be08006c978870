"""Constants of a graph: initializers and Constant nodes, which say the same in two ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir


def constant_of(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor behind an initializer or the output of a Constant node; None for what is computed or fed."""
    if value.const_value is not None:
        return value.const_value
    node = value.producer()
    if node is None or node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        if name == "value":
            return attribute.as_tensor()
        if name.startswith("value_"):
            return _as_tensor(attribute)
    return None


def _as_tensor(attribute: ir.Attr) -> ir.TensorProtocol | None:
    kinds: dict[ir.AttributeType, Any] = {
        ir.AttributeType.INT: np.int64, ir.AttributeType.INTS: np.int64,
        ir.AttributeType.FLOAT: np.float32, ir.AttributeType.FLOATS: np.float32,
    }  # fmt: skip
    if attribute.type in kinds:
        return ir.tensor(np.asarray(attribute.value, kinds[attribute.type]))
    if attribute.type in (ir.AttributeType.STRING, ir.AttributeType.STRINGS):
        texts = [attribute.value] if attribute.type == ir.AttributeType.STRING else attribute.value
        array = np.array([str(text).encode() for text in texts], object)
        shape = ir.Shape([]) if attribute.type == ir.AttributeType.STRING else ir.Shape([len(texts)])
        return ir.StringTensor(array.reshape(shape.numpy()), shape=shape)
    return None
