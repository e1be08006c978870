"""Queries and keys at each attention's first product, and where they can be rotated."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph import sole_consumer
from qcompiler.passes.canonical.forms import Form, Role, form_of, role_of
from qcompiler.passes.canonical.matching import producer, with_scalar
from qcompiler.passes.sites.readers import axis_behind
from qcompiler.passes.sites.records import Kind, Refusal

_STEPS = 8


@dataclass(frozen=True, slots=True)
class ScoreOperands:
    """softmax(Q K^T ..) of one attention.

    Attributes:
        product: The MatMul [.., queries, size] x [.., size, keys].
        size: Channels of one head.
        keys: Node and input index where the keys have their channels last; None where they never do.
    """

    product: ir.Node
    size: int
    keys: tuple[ir.Node, int] | None

    @property
    def name(self) -> str:
        """The product's."""
        return str(self.product.name)


def score_operands(model: ir.Model) -> list[ScoreOperands | Refusal]:
    """Each product of queries and keys, in graph order."""
    return [_operands(node) for node in model.graph if role_of(node) is Role.QK]


def _operands(node: ir.Node) -> ScoreOperands | Refusal:
    sizes = [
        value.shape[axis]
        for value, axis in zip(node.inputs, (-1, -2), strict=False)
        if value is not None and value.shape is not None and len(value.shape) >= 2
    ]
    size = next((size for size in sizes if isinstance(size, int)), None)
    queries = node.inputs[0].producer() if node.inputs[0] is not None else None
    if size is None:
        return Refusal(Kind.NORM, str(node.name), "the size of its heads is not known")
    if queries is not None and form_of(queries) is Form.ROTATION:
        return Refusal(Kind.NORM, str(node.name), "it is rotated already")
    return ScoreOperands(node, size, _keys_with_channels_last(node))


def _keys_with_channels_last(product: ir.Node) -> tuple[ir.Node, int] | None:
    """Up from the product, as far as only it depends on what is passed: heads are not yet repeated there."""
    node, index, axis = product, 1, -2
    found: tuple[ir.Node, int] | None = None
    for _ in range(_STEPS):
        value = node.inputs[index]
        maker = producer(value)
        if maker is None or value is None or sole_consumer(value) is not node:
            break
        scaled = with_scalar(maker) if maker.op_type in ("Mul", "Div") else None
        if scaled is not None and (maker.op_type == "Mul" or maker.inputs[0] is scaled[0]):
            node, index = maker, list(maker.inputs).index(scaled[0])
        elif maker.op_type == "Expand":
            node, index = maker, 0
        elif maker.op_type in ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity"):
            rank = len(maker.inputs[0].shape) if maker.inputs[0] is not None and maker.inputs[0].shape else 0
            before = next((at for at in range(-1, -rank - 1, -1) if axis_behind(maker, at) == axis), None)
            if before is None:
                break
            node, index, axis = maker, 0, before
        else:
            break
        if axis == -1:
            found = (node, index)
    return found
