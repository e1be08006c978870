"""Element types of all values, found without shapes; files of other tools often lack them on inner values."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from qcompiler.passes.precision.slots import slots_of

Types = dict[ir.Value, ir.DataType]

_CONCRETE: Final = {
    "tensor(float)": ir.DataType.FLOAT, "tensor(int64)": ir.DataType.INT64, "tensor(int32)": ir.DataType.INT32,
    "tensor(bool)": ir.DataType.BOOL, "tensor(string)": ir.DataType.STRING, "tensor(uint8)": ir.DataType.UINT8,
}
_BY_ATTRIBUTE: Final = {
    "Cast": "to", "QuantizeLinear": "output_dtype", "DequantizeLinear": "output_dtype", "RandomNormal": "dtype",
    "RandomUniform": "dtype", "RandomNormalLike": "dtype", "RandomUniformLike": "dtype", "EyeLike": "dtype",
    "HannWindow": "output_datatype", "HammingWindow": "output_datatype", "BlackmanWindow": "output_datatype",
}
_BY_INPUT: Final = {"QuantizeLinear": 2, "DequantizeLinear": 1, "CastLike": 1, "RandomNormalLike": 0, "EyeLike": 0}


def value_types(model: ir.Model) -> Types:
    """Value to element type, as far as the operator schemas tell; types that the file states win."""
    types: Types = {}
    _graph(model.graph, types, model.opset_imports)
    return types


def fill_types(model: ir.Model) -> None:
    """Write those types onto values that have none."""
    for value, dtype in value_types(model).items():
        if value.type is None:
            value.type = ir.TensorType(dtype)


def _graph(graph: ir.Graph, types: Types, opsets: dict[str, int]) -> None:
    for value in (*graph.inputs, *graph.initializers.values()):
        _learn(value, None, types)
    for node in graph:
        for name in ("body", "then_branch", "else_branch"):
            if name in node.attributes:
                _enter(node, node.attributes[name].as_graph(), types, opsets)
        for index, value in enumerate(node.outputs):
            _learn(value, None if value in types else _output_type(node, index, types, opsets), types)


def _learn(value: ir.Value, guess: ir.DataType | None, types: Types) -> None:
    stated = value.dtype
    if stated is None and value.const_value is not None:
        stated = value.const_value.dtype
    dtype = stated if stated is not None else guess
    if dtype is not None:
        types[value] = dtype


def _enter(node: ir.Node, body: ir.Graph, types: Types, opsets: dict[str, int]) -> None:
    """Types flow into a body through its inputs and out of it through its outputs."""
    for outer, inner in zip(node.inputs, body.inputs, strict=False):
        if outer in types:
            types.setdefault(inner, types[outer])
    _graph(body, types, opsets)
    results = body.outputs[1:] if node.op_type == "Loop" else body.outputs
    for inner, outer in zip(results, node.outputs, strict=False):
        if inner in types:
            _learn(outer, types[inner], types)


def _output_type(node: ir.Node, index: int, types: Types, opsets: dict[str, int]) -> ir.DataType | None:
    stated = node.attributes.get_int(_BY_ATTRIBUTE.get(node.op_type, ""), 0)
    if stated:
        return ir.DataType(stated)
    if node.op_type in _BY_INPUT:
        place = _BY_INPUT[node.op_type]
        source = node.inputs[place] if place < len(node.inputs) else None
        default = ir.DataType.UINT8 if node.op_type == "QuantizeLinear" else None
        return types.get(source, default) if source is not None else default
    if node.op_type in ("ConstantOfShape", "Constant") and "value" in node.attributes:
        return node.attributes["value"].as_tensor().dtype
    if node.op_type == "ConstantOfShape":
        return ir.DataType.FLOAT
    slots = slots_of(node.op_type, node.domain, opsets.get(node.domain, 1))
    if slots is None:
        return None
    variable = slots.output(index)
    if variable in _CONCRETE:
        return _CONCRETE[variable]
    for place, value in enumerate(node.inputs):
        if value in types and slots.input(place) == variable:
            return types[value]
    return None
