"""Rules on single QuantizeLinear and DequantizeLinear nodes: types, zero points, scales, axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompiler.backends.tensorrt.lint_rule import Finding, Rule, Scope, is_weight, label, operand, producer
from qcompiler.diagnostics import Severity
from qcompiler.graph import LAYOUT_OPS, constant_array, is_constant

_WIDE: Final = frozenset({ir.DataType.INT16, ir.DataType.UINT16})
_NARROW: Final = frozenset(
    getattr(ir.DataType, name) for name in ("UINT4", "INT2", "UINT2") if hasattr(ir.DataType, name)
)
_FLOATS: Final = frozenset(item for item in ir.DataType if item.name.startswith(("FLOAT8", "FLOAT4")))
_SMALLEST: Final = {ir.DataType.FLOAT16: 2.0**-14, ir.DataType.FLOAT: 2.0**-126}


def _zero_points(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        zero = operand(node, 2)
        if zero is None:
            continue
        codes = constant_array(zero)
        if codes is None:
            yield Finding(label(node), "the zero point is computed at run time")
        elif np.any(codes.astype(np.float32) != 0):
            values = codes.astype(np.float32)
            worst = values.reshape(-1)[np.abs(values).argmax()]
            yield Finding(label(node), f"the zero point is {worst:g}, not 0")


def _unsigned(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        if scope.code_type(node) == ir.DataType.UINT8:
            given = "" if operand(node, 2) is not None else " (the default where the zero point is omitted)"
            yield Finding(label(node), f"the codes are uint8{given}; read as int8 they saturate at half their range")


def _biases(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        if node.op_type == "DequantizeLinear" and scope.code_type(node) == ir.DataType.INT32:
            yield Finding(label(node), "dequantizes int32, as quantized biases do")


def _scales(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        scale = constant_array(operand(node, 1))
        if scale is None or not scale.size:
            continue
        values = scale.astype(np.float32)
        low = float(values.min())
        if not np.all(np.isfinite(values)) or low <= 0:
            bad = int(np.sum(~(values > 0)) + np.sum(np.isinf(values)))
            yield Finding(label(node), f"{bad} of {values.size} scales are not positive and finite")
        elif low < _SMALLEST.get(scope.type_of(operand(node, 1)) or ir.DataType.FLOAT, 0.0):
            kind = str(scale.dtype)
            yield Finding(
                label(node), f"the smallest scale, {low:.3g}, is subnormal in {kind}",
                "dequantize in float32 here, or give dead channels a larger scale", Severity.WARNING,
            )


def _scale_counts(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        data, scale = node.inputs[0], operand(node, 1)
        if data is None or scale is None or data.shape is None or scale.shape is None or len(scale.shape) == 0:
            continue
        counts = [dim if isinstance(dim, int) else None for dim in scale.shape]
        sizes = [dim if isinstance(dim, int) else None for dim in data.shape]
        axis = node.attributes.get_int("axis", 1)
        block = node.attributes.get_int("block_size", 0)
        if not -len(sizes) <= axis < len(sizes):
            if counts != [1]:
                yield Finding(label(node), f"axis {axis} is outside the {len(sizes)} dimensions of the tensor")
        elif block:
            yield from _block_counts(node, sizes, counts, axis % len(sizes), block)
        elif len(counts) > 1:
            message = f"the scale has {len(counts)} dimensions; per axis it has 1, and blocks need block_size"
            yield Finding(label(node), message)
        elif counts[0] not in (None, 1, sizes[axis]) and sizes[axis] is not None:
            yield Finding(label(node), f"{counts[0]} scales for {sizes[axis]} channels of axis {axis}")


def _block_counts(
    node: ir.Node, sizes: list[int | None], counts: list[int | None], axis: int, block: int
) -> Iterator[Finding]:
    if len(sizes) != len(counts):
        yield Finding(label(node), f"block scales have {len(counts)} dimensions, the tensor has {len(sizes)}")
        return
    for place, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        if size is None or count is None:
            continue
        if place == axis and (size % block or count != size // block):
            yield Finding(label(node), f"{count} blocks of {block} don't cover the {size} elements of axis {axis}")
        elif place != axis and size != count:
            yield Finding(label(node), f"{count} scales for {size} elements of axis {place}, where no block is")


def _sixteen_bits(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        if scope.code_type(node) in _WIDE:
            yield Finding(label(node), f"the codes are {str(scope.code_type(node)).lower()}")


def _narrow(scope: Scope) -> Iterator[Finding]:
    for graph in scope.model.graphs():
        for value in graph.initializers.values():
            if scope.type_of(value) in _NARROW:
                yield Finding(value.name or "", f"the constant is {str(scope.type_of(value)).lower()}")


def _empty_names(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        if len(node.inputs) > 2 and node.inputs[2] is None:
            yield Finding(label(node), "the zero point is an empty name")


def _constant_codes(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        codes = node.inputs[0]
        if node.op_type != "DequantizeLinear" or codes is None or scope.code_type(node) != ir.DataType.INT8:
            continue
        if is_constant(codes) and codes.shape is not None and len(codes.shape) == 0:
            yield Finding(label(node), "the int8 constant is a scalar", "give it shape [1]")
        between = producer(codes, "Gather", "Concat", "Slice", "Expand", *LAYOUT_OPS - {"Transpose", "Identity"})
        if between is not None and is_constant(between.inputs[0]):
            message = f"{between.op_type} stands between the int8 constant and its DequantizeLinear"
            yield Finding(label(between), message)


def _output_types(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        stated = node.attributes.get_int("output_dtype", 0)
        other = operand(node, 2) if node.op_type == "QuantizeLinear" else operand(node, 1)
        actual = scope.type_of(other)
        if stated and actual is not None and ir.DataType(stated) != actual:
            kind = "zero point" if node.op_type == "QuantizeLinear" else "scale"
            yield Finding(label(node), f"output_dtype is {ir.DataType(stated).name}, the {kind} is {actual.name}")


def _half_scales(scope: Scope) -> Iterator[Finding]:
    if scope.opset >= 19:
        return
    for node in scope.pairs:
        if scope.type_of(operand(node, 1)) == ir.DataType.FLOAT16:
            yield Finding(label(node), f"a float16 scale in opset {scope.opset}")


def _float8(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        kind = scope.code_type(node)
        if kind in _FLOATS:
            yield Finding(label(node), f"the codes are {str(kind).lower()}, which Orin's GPU does not compute in")


def _per_channel_activations(scope: Scope) -> Iterator[Finding]:
    for node in scope.pairs:
        scale, source = operand(node, 1), node.inputs[0]
        if scale is None or scale.shape is None or scale.shape.is_dynamic() or scale.const_value is None:
            continue
        is_constant_pair = is_constant(source) if node.op_type == "QuantizeLinear" else is_weight(node)
        if not is_constant_pair and scale.const_value.size > 1:
            yield Finding(label(node), f"an activation with {scale.const_value.size} scales")


QUANTIZER_RULES: tuple[Rule, ...] = (
    Rule("QC501", "Zero points are 0, for weights too", _zero_points, "make the scheme symmetric"),
    Rule("QC502", "No uint8 codes", _unsigned, "use int8 with zero point 0 and scale max/127"),
    Rule("QC503", "No dequantized int32", _biases, "keep biases float"),
    Rule("QC504", "Scales are positive, finite and not subnormal", _scales, "floor the scale of dead channels"),
    Rule("QC505", "As many scales as channels or blocks", _scale_counts, "one scale for each slice along axis"),
    Rule("QC506", "No 16-bit codes", _sixteen_bits, "use int8, or leave the tensor float"),
    Rule("QC508", "No uint4 and no 2-bit constants", _narrow, "use int8 or int4"),
    Rule("QC510", "Zero points are given or left out", _empty_names, "drop the third input, or give int8 zeros"),
    Rule(
        "QC512", "Constant codes reach DequantizeLinear directly", _constant_codes,
        "apply that operator to the constant",
    ),
    Rule("QC516", "output_dtype agrees with the operands", _output_types, "drop the attribute"),
    Rule("QC517", "float16 scales need opset 19", _half_scales, "raise the opset, or use float32 scales"),
    Rule("QC518", "No float8 and no float4", _float8, "use int8"),
    Rule("QC521", "Activations have one scale", _per_channel_activations, "quantize activations per tensor"),
)
