"""Values of attention whose heads can be rotated: the layers that make them and those that read them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph import sole_consumer
from qcompiler.passes.canonical.forms import Role, role_of
from qcompiler.passes.canonical.matching import producer
from qcompiler.passes.rotate.marks import is_marked
from qcompiler.passes.sites.readers import axis_behind, find_readers, reader_of
from qcompiler.passes.sites.records import Kind, Operand, Reader, Refusal

_STEPS = 10
_ELSEWHERE = "the values are read elsewhere too, or are an output of the model (a cache)"


@dataclass(frozen=True, slots=True)
class HeadValues:
    """One attention.

    Attributes:
        name: Of the joined heads.
        size: Channels of one head.
        made: Weight and, where there is one, bias of the layer that makes the values, by output channel.
        readers: Output projections.
    """

    name: str
    size: int
    made: tuple[Operand, ...]
    readers: tuple[Reader, ...]


def head_values(model: ir.Model) -> list[HeadValues | Refusal]:
    """Each attention whose values come from a layer of their own and whose joined heads only layers read.

    Heads of values may be repeated on the way (Expand, or a product that broadcasts), as all get the same rotation.
    """
    return [_values(node) for node in model.graph if role_of(node) is Role.PV]


def _values(product: ir.Node) -> HeadValues | Refusal:
    size = product.outputs[0].shape[-1] if product.outputs[0].shape is not None else None
    made = _maker(product) if isinstance(size, int) else "the size of its heads is not known"
    joined = _joined(product)
    if isinstance(made, str):
        return Refusal(Kind.VALUE, str(product.name), made)
    if joined is None or not isinstance(size, int):
        return Refusal(Kind.VALUE, str(product.name), "the heads are not joined behind the product")
    found = find_readers(joined)
    if found.refusal or found.edges or not found.layers:
        return Refusal(Kind.VALUE, str(joined.name), found.refusal or "other nodes than layers read the joined heads")
    if any(_channels(reader) % size for reader in found.layers):  # blocks of one head stay together in any such Reshape
        return Refusal(Kind.VALUE, str(joined.name), f"a reader's channels are no multiple of the {size} of a head")
    if is_marked(found.layers[0].node, "heads"):
        return Refusal(Kind.VALUE, str(joined.name), "it is rotated already")
    return HeadValues(str(joined.name), size, made, tuple(found.layers))


def _channels(reader: Reader) -> int:
    array = reader.weight.value.const_value
    return int(array.shape.numpy()[reader.weight.axis]) if array is not None else 1


def _maker(product: ir.Node) -> tuple[Operand, ...] | str:
    """Constants of the layer whose channels are split into the heads of values, or why there are none."""
    node, index = product, 1
    for _ in range(_STEPS):
        value = node.inputs[index]
        maker = producer(value)
        if value is None or maker is None:
            return "the values do not come from a layer whose channels are split into heads"
        if sole_consumer(value) is not node:
            return _ELSEWHERE
        if maker.op_type == "Reshape" and axis_behind(maker, -1) != -1:
            return _layer(maker)
        channels_last = maker.op_type == "Expand" or (
            maker.op_type in ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity")
            and axis_behind(maker, -1) == -1
        )
        if not channels_last:
            return f"the values come through {maker.op_type}"
        node, index = maker, 0
    return "the values do not come from a layer whose channels are split into heads"


def _layer(split: ir.Node) -> tuple[Operand, ...] | str:
    value = split.inputs[0]
    node = producer(value, "MatMul", "Gemm", "Add")
    if node is not None and node.op_type == "Add":
        node = next((made for item in node.inputs if (made := producer(item, "MatMul")) is not None), None)
    layer = reader_of(node, 0, -1) if node is not None else None
    if value is None or node is None or layer is None or split.outputs[0].shape is None:
        return "the values do not come from a layer of their own"
    last = layer.bias.node.outputs[0] if layer.bias is not None else node.outputs[0]
    if last is not value or sole_consumer(value) is not split:
        return "the values do not come from a layer of their own"
    weight = Operand(node, 1, layer.outputs)
    return (weight,) if layer.bias is None else (weight, layer.bias)


def _joined(product: ir.Node) -> ir.Value | None:
    """What has the channels of all heads side by side."""
    value = product.outputs[0]
    axis = -1
    for _ in range(_STEPS):
        node = sole_consumer(value)
        if node is None or node.op_type not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity"):
            return None
        after = node.outputs[0]
        moved = axis_behind(node, axis)
        if moved is None:
            return after if node.op_type == "Reshape" and axis == -1 else None
        value, axis = after, moved
    return None
