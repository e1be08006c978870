"""Operands that are attributes in one opset and constant inputs in another: read as attributes either way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import onnx_ir as ir

from qcompiler.diffing.attributes import plain_text
from qcompiler.diffing.constants import constant_of

_AXES: Final = {1: "axes"}
_REDUCTIONS: Final = ("Max", "Min", "Mean", "Sum", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
_OPERANDS: Final[Mapping[str, Mapping[int, str]]] = {
    "Squeeze": _AXES, "Unsqueeze": _AXES, **{f"Reduce{word}": _AXES for word in _REDUCTIONS},
    "Slice": {1: "starts", 2: "ends", 3: "axes", 4: "steps"}, "Clip": {1: "min", 2: "max"},
    "Pad": {1: "pads", 2: "value"}, "Split": {1: "split"}, "TopK": {1: "k"}, "Reshape": {1: "shape"},
    "Expand": {1: "shape"}, "Tile": {1: "repeats"}, "Upsample": {1: "scales"},
}  # fmt: skip
_LONGEST: Final = 64


def constant_operands(node: ir.Node) -> dict[int, tuple[str, str]]:
    """Input to (name, text) of those that say how, not what, the node computes."""
    if node.domain not in ("", "ai.onnx"):
        return {}
    found = {}
    for place, name in _OPERANDS.get(node.op_type, {}).items():
        value = node.inputs[place] if place < len(node.inputs) else None
        tensor = None if value is None else constant_of(value)
        if tensor is not None and tensor.size <= _LONGEST:
            items = tensor.numpy().tolist()
            if name == "k" and isinstance(items, list) and len(items) == 1:
                items = items[0]
            if name == "steps" and isinstance(items, list) and set(items) == {1}:
                found[place] = name, ""  # the default
                continue
            found[place] = name, plain_text(items)
    return found
