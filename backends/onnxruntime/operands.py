"""Integer operands: what stands behind a DequantizeLinear, and constants made from it, each made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node

Array = np.ndarray[Any, Any]
OFFSET = 128


@dataclass(frozen=True, slots=True)
class Operand:
    """Codes with their scale and zero point.

    Attributes:
        codes: The int8 or uint8 value.
        scale: float32, shape () or (channels,); `scale_value` holds the same.
        zero: One number; zero points that differ between channels are not taken.
        axis: The channel axis where `scale` has several elements.
        constant: The codes, where they are constant.
    """

    codes: ir.Value
    scale_value: ir.Value
    scale: Array
    zero: int
    axis: int
    constant: Array | None

    @property
    def signed(self) -> bool:
        """Whether the container is int8."""
        return self.codes.dtype == ir.DataType.INT8


def operand_of(value: ir.Value | None) -> Operand | None:
    """What a DequantizeLinear with constant parameters reads; None for anything else."""
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "DequantizeLinear" or producer.attributes.get_int("block_size"):
        return None
    codes, scale_value = producer.inputs[0], producer.inputs[1]
    scale = constant_array(scale_value)
    if (
        codes is None
        or scale_value is None
        or scale is None
        or codes.dtype not in (ir.DataType.INT8, ir.DataType.UINT8)
    ):
        return None
    zero = constant_array(producer.inputs[2]) if len(producer.inputs) > 2 else np.zeros(1, np.int8)
    if zero is None or (zero != zero.reshape(-1)[0]).any():
        return None
    dims = len(codes.shape) if codes.shape is not None else 0
    axis = producer.attributes.get_int("axis", 1)
    axis = axis + dims if axis < 0 else axis
    return Operand(codes, scale_value, scale, int(zero.reshape(-1)[0]), axis, constant_array(codes))


@dataclass(slots=True)
class Lowering:
    """Shared state of one lowering run: fresh names, and constants that several nodes share."""

    model: ir.Model
    names: FreshNames = field(init=False)
    _made: dict[tuple[Any, ...], ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = FreshNames(self.model)

    def constant(self, key: tuple[Any, ...], array: Array, wish: str) -> ir.Value:
        """The initializer for `key`, made from `array` the first time."""
        if key not in self._made:
            self._made[key] = add_initializer(self.model.graph, array, self.names(wish))
        return self._made[key]

    def transposed(self, operand: Operand) -> Operand:
        """The constant operand with its two axes exchanged."""
        assert operand.constant is not None
        codes = self.constant(
            (operand.codes.name, "T"), np.ascontiguousarray(operand.constant.T), f"{operand.codes.name}_T"
        )
        return replace(operand, codes=codes, axis=1 - operand.axis, constant=codes.const_value.numpy())  # type: ignore[union-attr]

    def unsigned(self, operand: Operand) -> Operand:
        """The constant int8 operand as uint8: codes and zero point moved up by 128."""
        if operand.constant is None or not operand.signed:
            return operand
        key = (operand.codes.name, "uint8")
        if key not in self._made:
            # flipping the sign bit adds 128 modulo 256
            self.constant(key, operand.constant.view(np.uint8) ^ np.uint8(OFFSET), f"{operand.codes.name}_uint8")
        codes = self._made[key]
        return replace(operand, codes=codes, zero=operand.zero + OFFSET, constant=codes.const_value.numpy())  # type: ignore[union-attr]

    def zero_point(self, operand: Operand, *, like_scale: bool = False) -> ir.Value:
        """The zero point as a scalar initializer, or in the shape of the scale."""
        dtype = np.int8 if operand.signed else np.uint8
        shape = operand.scale.shape if like_scale else ()
        key = ("zero point", np.dtype(dtype).name, operand.zero, shape)
        return self.constant(key, np.full(shape, operand.zero, dtype), f"{np.dtype(dtype).name}_zero_point")

    def zeros(self, operand: Operand, channels: int) -> ir.Value:
        """The operand's zero point, repeated for each channel."""
        dtype = np.int8 if operand.signed else np.uint8
        key = ("zero point", np.dtype(dtype).name, operand.zero, (channels,))
        return self.constant(key, np.full(channels, operand.zero, dtype), f"{np.dtype(dtype).name}_zero_point")

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        suffix: str,
        like: ir.Node,
        *,
        domain: str = "",
        dtype: ir.DataType | None = ir.DataType.FLOAT,
        attributes: dict[str, Any] | None = None,
    ) -> ir.Node:
        """A node named after `like`, with its output's shape and metadata."""
        name = self.names(f"{like.name}/{suffix}")
        made = make_node(
            op_type, list(inputs), attributes, output=name, dtype=dtype, shape=like.outputs[0].shape, domain=domain
        )
        made.metadata_props.update(like.metadata_props)
        return made

    def rescaled(self, integers: ir.Node, scale: Array, like: ir.Node) -> list[ir.Node]:
        """int32 products -> Cast -> times `scale`: real numbers."""
        cast = self.node("Cast", integers.outputs, "float", like, attributes={"to": int(ir.DataType.FLOAT)})
        value = add_initializer(self.model.graph, scale.astype(np.float32), self.names(f"{like.name}/scale"))
        return [integers, cast, self.node("Mul", [cast.outputs[0], value], "real", like)]

    def put(self, made: Sequence[ir.Node], tail: ir.Node) -> None:
        """`made` takes the place of `tail` and its output's name; what nothing reads any more is left to cleanup."""
        graph = tail.graph
        assert graph is not None
        ir.convenience.replace_nodes_and_values(
            graph, tail, [tail], list(made), [tail.outputs[0]], [made[-1].outputs[0]]
        )
