"""Whether a graph is a vision transformer, told by its structure, and what one sees of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, constant_array
from qcompiler.passes.canonical.forms import ACTIVATION_FORMS, NORM_FORMS, Form, Role, form_of, role_of

_TO_TOKENS = LAYOUT_OPS | {
    "Add", "Sum", "Sub", "Mul", "Concat", "Cast", "Relu", "HardSwish", "LeakyRelu", "Clip", "MaxPool", "AveragePool",
    "BatchNormalization", "Slice", "Dropout",
}  # fmt: skip
"""What may stand between the convolutions that cut a picture into tokens and the first norm."""


@dataclass(frozen=True, slots=True)
class VisionTransformer:
    """What was found; sizes are None where they are not fixed.

    Attributes:
        blocks: Attentions.
        heads: Of most attentions.
        tokens: In front of the first norm.
        window: Positions that an attention sees, where those are fewer than tokens; else None.
        convolutions: In front of the first norm: 1 is a patch embedding, more a stem.
        patch: Height and width of the last of these with equal kernel and stride; None where there is no such.
        added_tokens: Class and distillation tokens.
    """

    blocks: int
    heads: int | None
    head_size: int | None
    tokens: int | None
    window: int | None
    convolutions: int
    patch: tuple[int, int] | None
    added_tokens: int

    def __str__(self) -> str:
        parts = [f"{self.blocks} attentions", f"{self.heads or '?'} heads of {self.head_size or '?'}"]
        parts.append(f"{self.tokens or '?'} tokens" + (f" in windows of {self.window}" if self.window else ""))
        if self.patch:
            parts.append(f"patches of {self.patch[0]}x{self.patch[1]}")
        if self.convolutions > 1:
            parts.append(f"a stem of {self.convolutions} convolutions")
        if self.added_tokens:
            parts.append("a class token" if self.added_tokens == 1 else f"{self.added_tokens} tokens of its own")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def find_vision_transformer(model: ir.Model) -> VisionTransformer | None:
    """A model in canonical form whose pictures become tokens in convolutions, with attention behind norms; else None.

    Pictures are a float input with four axes; between the last convolution and a LayerNorm stand only operators that
    rearrange, add and activate. So ViT, DeiT, Swin and hybrids of both; no text encoder, and no convolutional net with
    an attention somewhere.
    """
    if not any(value.dtype in _FLOATS and len(value.shape or ()) == 4 for value in model.graph.inputs):
        return None
    scores = [node for node in model.graph if form_of(node) is Form.ATTENTION and role_of(node) is Role.QK]
    if not scores:
        return None
    for norm in model.graph:
        if form_of(norm) is Form.LAYER_NORM:
            before = list(_before(norm))
            convolutions = [node for node in before if node.op_type == "Conv"]
            fits = 0 < len(convolutions) <= _MOST_CONVOLUTIONS * len(scores)
            return _describe(norm, scores, before, convolutions) if fits else None
    return None


_MOST_CONVOLUTIONS = 5
"""For each attention: a ResNet-50 in front of 12 blocks is a hybrid, 46 convolutions in front of 2 are another net."""
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def _before(norm: ir.Node) -> Iterator[ir.Node]:
    """Nodes in front of a norm, up to what is neither convolution nor on the way from one to tokens."""
    seen: set[ir.Node] = set()
    queue = [norm.inputs[0]]
    while queue:
        value = queue.pop()
        node = None if value is None else value.producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if node.op_type == "Conv":
            queue.append(node.inputs[0])
        elif node.op_type in _TO_TOKENS or form_of(node) in ACTIVATION_FORMS | NORM_FORMS:
            queue += node.inputs


def _describe(
    norm: ir.Node, scores: list[ir.Node], before: list[ir.Node], convolutions: list[ir.Node]
) -> VisionTransformer:
    heads, sizes, keys = Counter[int | None](), Counter[int | None](), Counter[int | None]()
    for node in scores:
        heads[_size(node.inputs[0], -3)] += 1
        sizes[_size(node.inputs[0], -1)] += 1
        keys[_size(node.inputs[1], -1)] += 1
    tokens, seen = _tokens(norm.inputs[0]), keys.most_common(1)[0][0]
    patches = [patch for node in convolutions if (patch := _patch(node)) is not None]
    return VisionTransformer(
        blocks=len(scores),
        heads=heads.most_common(1)[0][0],
        head_size=sizes.most_common(1)[0][0],
        tokens=tokens,
        window=seen if tokens is not None and seen is not None and seen < tokens else None,
        convolutions=len(convolutions),
        patch=patches[0] if patches else None,
        added_tokens=_added_tokens(before, tokens),
    )


def _tokens(value: ir.Value | None) -> int | None:
    """Positions of [batch, positions, channels] or [batch, rows, columns, channels]."""
    count = 1
    for axis in range(1, len(value.shape or ()) - 1 if value is not None else 1):
        size = _size(value, axis)
        if size is None:
            return None
        count *= size
    return count


def _added_tokens(before: list[ir.Node], tokens: int | None) -> int:
    """Tokens of a Concat that are not the patches, its longest part."""
    for node in before:
        if node.op_type == "Concat" and tokens is not None and _tokens(node.outputs[0]) in (None, tokens):
            known = [length for value in node.inputs if (length := _tokens(value)) is not None]
            return max(0, tokens - max(known, default=tokens))
    return 0


def _patch(node: ir.Node) -> tuple[int, int] | None:
    held, weight = node.attributes.get("strides"), constant_array(node.inputs[1])
    if held is None or weight is None or weight.ndim != 4:
        return None
    kernel, strides = weight.shape[2:], tuple(held.value)
    return (int(kernel[0]), int(kernel[1])) if tuple(kernel) == strides and kernel[0] > 1 else None


def _size(value: ir.Value | None, axis: int) -> int | None:
    if value is None or value.shape is None or len(value.shape) < (-axis if axis < 0 else axis + 1):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None
