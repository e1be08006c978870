"""What changed in ai.onnx operators between opsets, beyond wider types: one rule per operator and version.

A rule edits its node in place (or puts others before it). Sources: ONNX's Changelog.md, per operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.graph import rank

Rule = Callable[[ir.Node], None]


def constant_before(node: ir.Node, array: np.ndarray[Any, Any], dtype: ir.DataType | None = None) -> ir.Value:
    """A Constant node in front of `node`; `lift-constants` turns it into an initializer."""
    made = ir.node("Constant", [], {"value": ir.tensor(array, dtype=dtype)})
    _insert(node, made)
    value = made.outputs[0]
    value.shape, value.dtype = ir.Shape(array.shape), dtype or ir.tensor(array).dtype
    return value


def op_before(
    node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any] | None = None
) -> ir.Value:
    """A new node in front of `node`; its single output."""
    made = ir.node(op_type, inputs, attributes or {})
    _insert(node, made)
    return made.outputs[0]


def _insert(node: ir.Node, made: ir.Node) -> None:
    graph = node.graph
    if graph is None:
        raise ValueError(f"{node.op_type} belongs to no graph")
    graph.insert_before(node, made)


def _set_input(node: ir.Node, index: int, value: ir.Value) -> None:
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def _ints_to_input(attribute: str, index: int) -> Rule:
    """attribute=[...] becomes the int64 input at `index`."""

    def rule(node: ir.Node) -> None:
        held = node.attributes.pop(attribute, None)
        if held is not None:
            _set_input(node, index, constant_before(node, np.asarray(held.value, np.int64).reshape(-1)))

    return rule


def _float_to_input(attribute: str, index: int, default: float | None) -> Rule:
    """attribute=x becomes a scalar input at `index` of the first input's type."""

    def rule(node: ir.Node) -> None:
        held = node.attributes.pop(attribute, None)
        value = default if held is None else float(held.value)
        if value is None:
            return
        data = node.inputs[0]
        dtype = (data.dtype if data is not None else None) or ir.DataType.FLOAT
        _set_input(node, index, constant_before(node, np.asarray(value, dtype.numpy()), dtype))

    return rule


def _both(*rules: Rule) -> Rule:
    def rule(node: ir.Node) -> None:
        for one in rules:
            one(node)

    return rule


def _pad_11(node: ir.Node) -> None:
    _ints_to_input("pads", 1)(node)
    mode = node.attributes.get_string("mode", "constant")
    value = node.attributes.get_float("value", 0.0)
    if mode == "constant" and value:
        _float_to_input("value", 2, None)(node)
    node.attributes.pop("value", None)


def _softmax_13(node: ir.Node) -> None:
    """Before 13 the dimensions from `axis` (default 1) on are one; since then only `axis` (default -1) counts."""
    axis = node.attributes.get_int("axis", 1)
    data = node.inputs[0]
    dims = rank(data)
    if axis == -1 or (dims is not None and axis == dims - 1):
        node.attributes["axis"] = ir.AttrInt64("axis", -1)
        return
    flat = op_before(node, "Flatten", [data], {"axis": axis})
    inner = op_before(node, node.op_type, [flat], {"axis": -1})
    shape = op_before(node, "Shape", [data])
    node.op_type = "Reshape"
    node.attributes.clear()
    node.replace_input_with(0, inner)
    _set_input(node, 1, shape)


def _upsample_10(node: ir.Node) -> None:
    node.op_type = "Resize"


def _resize_11(node: ir.Node) -> None:
    """Resize-10 samples at x / scale and takes the floor."""
    scales = node.inputs[1]
    node.resize_inputs(3)
    node.replace_input_with(1, constant_before(node, np.zeros(0, np.float32)))
    node.replace_input_with(2, scales)
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    if node.attributes.get_string("mode", "nearest") == "nearest":
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "floor")


def _upsample_9(node: ir.Node) -> None:
    held = node.attributes.pop("scales", None)
    if held is not None:
        _set_input(node, 1, constant_before(node, np.asarray(held.value, np.float32)))


def _batch_norm_9(node: ir.Node) -> None:
    if node.attributes.get_int("spatial", 1) != 1:
        raise UnsupportedError(
            "BatchNormalization with spatial=0", where=node.name, hint="export with opset 9 or higher"
        )
    node.attributes.pop("spatial", None)


def _batch_norm_14(node: ir.Node) -> None:
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise UnsupportedError("BatchNormalization in training mode", where=node.name, hint="export in evaluation mode")
    node.resize_outputs(1)


def _dropout_12(node: ir.Node) -> None:
    node.attributes.pop("ratio", None)  # only training reads it


def _split_18(node: ir.Node) -> None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.resize_inputs(1)
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _scan_9(node: ir.Node) -> None:
    raise UnsupportedError(
        "Scan of opset 8 (with a batch dimension)", where=node.name, hint="export with opset 9 or higher"
    )


def _set_default(attribute: str, value: str) -> Rule:
    """What used to be the fixed behaviour is spelled out where the default became another one."""

    def rule(node: ir.Node) -> None:
        if attribute not in node.attributes:
            node.attributes[attribute] = ir.AttrString(attribute, value)

    return rule


def _rename(op_type: str) -> Rule:
    def rule(node: ir.Node) -> None:
        node.op_type = op_type

    return rule


def _grid_sample_mode(words: dict[str, str], default: str) -> Rule:
    def rule(node: ir.Node) -> None:
        mode = node.attributes.get_string("mode", default)
        node.attributes["mode"] = ir.AttrString("mode", words.get(mode, mode))

    return rule


def _group_norm_21(node: ir.Node) -> None:
    """Gain and bias of opset 18 are per group (G,), since 21 per channel (C,): each is repeated C/G times."""
    data, groups = node.inputs[0], node.attributes.get_int("num_groups", 1)
    channels = data.shape[1] if data is not None and data.shape is not None else None
    if not isinstance(channels, int):
        raise UnsupportedError("GroupNormalization of opset 18 with unknown channels", where=node.name)
    for index in (1, 2):
        column = op_before(
            node, "Reshape", [node.inputs[index], constant_before(node, np.asarray([groups, 1], np.int64))]
        )
        wide = op_before(
            node, "Expand", [column, constant_before(node, np.asarray([groups, channels // groups], np.int64))]
        )
        node.replace_input_with(
            index, op_before(node, "Reshape", [wide, constant_before(node, np.asarray([-1], np.int64))])
        )


def _dft_axis_to_input(node: ir.Node) -> None:
    axis = node.attributes.get_int("axis", 1)
    node.attributes.pop("axis", None)
    _set_input(node, 2, constant_before(node, np.asarray(axis, np.int64)))


def _dft_axis_to_attribute(node: ir.Node) -> None:
    axis = node.inputs[2] if len(node.inputs) > 2 else None
    held = ir.convenience.get_const_tensor(axis) if axis is not None else None
    if axis is not None and held is None:
        raise UnsupportedError(
            "DFT with an axis computed at run time", where=node.name, hint="export with opset 19 or lower"
        )
    node.attributes["axis"] = ir.AttrInt64("axis", -2 if held is None else int(held.numpy()))
    node.resize_inputs(min(len(node.inputs), 2))


_REDUCTIONS = (
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceSumSquare",
)  # fmt: skip

UPGRADES: dict[tuple[str, int], Rule] = {
    ("Scan", 9): _scan_9,
    ("BatchNormalization", 9): _batch_norm_9,
    ("Upsample", 9): _upsample_9,
    ("Upsample", 10): _upsample_10,
    ("Slice", 10): _both(_ints_to_input("starts", 1), _ints_to_input("ends", 2), _ints_to_input("axes", 3)),
    ("TopK", 10): _ints_to_input("k", 1),
    ("Clip", 11): _both(_float_to_input("min", 1, None), _float_to_input("max", 2, None)),
    ("Pad", 11): _pad_11,
    ("Resize", 11): _resize_11,
    ("Scatter", 11): _rename("ScatterElements"),
    ("Dropout", 12): _dropout_12,
    ("Softmax", 13): _softmax_13,
    ("LogSoftmax", 13): _softmax_13,
    ("Hardmax", 13): _softmax_13,
    ("ReduceSum", 13): _ints_to_input("axes", 1),
    ("Squeeze", 13): _ints_to_input("axes", 1),
    ("Unsqueeze", 13): _ints_to_input("axes", 1),
    ("Split", 13): _ints_to_input("split", 1),
    ("BatchNormalization", 14): _batch_norm_14,
    ("RoiAlign", 16): _set_default("coordinate_transformation_mode", "output_half_pixel"),
    ("Split", 18): _split_18,
    **{(name, 18): _ints_to_input("axes", 1) for name in _REDUCTIONS},
    ("GridSample", 20): _grid_sample_mode({"bilinear": "linear", "bicubic": "cubic"}, "bilinear"),
    ("DFT", 20): _dft_axis_to_input,
    ("GroupNormalization", 21): _group_norm_21,
}

DOWNGRADES: dict[tuple[str, int], Rule] = {
    ("GridSample", 20): _grid_sample_mode({"linear": "bilinear", "cubic": "bicubic"}, "linear"),
    ("DFT", 20): _dft_axis_to_attribute,
}
