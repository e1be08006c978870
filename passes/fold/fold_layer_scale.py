"""Factors behind a layer and layout operators go into the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, FreshNames, add_initializer, constant_array, is_constant, rank
from qcompiler.passes.canonical.forms import form_of
from qcompiler.passes.canonical.matching import producer
from qcompiler.passes.fold.output_channels import Array, drop_follower, per_channel
from qcompiler.passes.sites.layers import layer_made
from qcompiler.passes.sites.readers import find_readers
from qcompiler.passes.sites.records import Operand
from qcompiler.pipeline import Outcome, Pass, Skip

_LAYOUT = LAYOUT_OPS | {"Slice", "Concat"}
_MAX_STEPS = 12
_SHARED = "the layer's output is read elsewhere too"


@dataclass(frozen=True)
class FoldLayerScale(Pass):
    """(x W + b) * c   becomes   x (W diag(c)) + b c, for a constant scalar c or one number for each channel.

    LayerScale (CaiT, DINOv2) stands so in front of each residual Add: without it one node less runs, and the residual
    stream can be rotated. Codes of weights with a scale per output channel stay what they are. Products are taken in
    float64 and rounded once; weights are never written in place. Layout operators may stand in between, as where
    windows are put together and rolled back, or the places of a Conv become tokens.
    """

    name: ClassVar[str] = "fold-layer-scale"

    def run(self, model: ir.Model) -> Outcome:
        names = FreshNames(model)
        matched: list[str] = []
        skipped: list[Skip] = []
        for node in list(model.graph):
            if node.op_type not in ("Mul", "Div") or node.domain != "" or form_of(node) is not None:
                continue
            for index in (0,) if node.op_type == "Div" else (0, 1):
                value, constant = node.inputs[index], constant_array(node.inputs[1 - index])
                layer = _before_layout(value) if constant is not None else None
                made = None if layer is None else layer_made(layer) or _conv_made(layer)
                if value is None or layer is None or constant is None or made is None:
                    continue
                axis = _arrives_alone(node, layer, made[0].node)
                reason = _SHARED if axis is None else _fold(node, value, constant, made, axis, names)
                if reason:
                    skipped.append(Skip(node.name or "", reason))
                else:
                    matched.append(node.name or "")
                break
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _before_layout(value: ir.Value | None) -> ir.Value | None:
    """What a layer gives, in front of layout operators: of a Concat, where its first input comes from."""
    for _ in range(_MAX_STEPS):
        node = None if value is None else value.producer()
        if node is None or node.op_type not in _LAYOUT:
            break
        value = node.inputs[0]
    return value


def _conv_made(value: ir.Value) -> tuple[Operand, Operand | None, int] | None:
    """Weight, bias and output channels of the Conv that gives the value; `layer_made` has the same of products."""
    conv = producer(value, "Conv")
    if conv is None or any(item is not None and not is_constant(item) for item in conv.inputs[1:]):
        return None
    array = constant_array(conv.inputs[1])
    if array is None or array.dtype.kind != "f":
        return None
    bias = Operand(conv, 2) if len(conv.inputs) > 2 and conv.inputs[2] is not None else None
    return Operand(conv, 1), bias, int(array.shape[0])


def _arrives_alone(node: ir.Node, layer: ir.Value, maker: ir.Node) -> int | None:
    """Where the channels lie at this node, from the end, if all that the layer gives comes to it and to no other."""
    found = find_readers(layer, 1 - (rank(layer) or 2) if maker.op_type == "Conv" else -1)
    alone = not found.refusal and not found.layers and [edge.node for edge in found.edges] == [node]
    return found.edges[0].axis if alone else None


def _fold(
    node: ir.Node, value: ir.Value, constant: Array, made: tuple[Operand, Operand | None, int], axis: int,
    names: FreshNames,
) -> str:  # fmt: skip
    weight, bias, channels = made
    last = value.producer()
    if last is None or form_of(weight.node) is not None:
        return "part of a recognised form"
    numbers = per_channel(constant, channels, -1 - axis, rank(value) or 0)
    if numbers is None:
        return "the constant is not one number for each output channel"
    with np.errstate(divide="ignore", over="ignore"):
        factors = 1 / numbers if node.op_type == "Div" else numbers
        operands = [weight] if bias is None else [weight, bias]
        folded = [_multiplied(item, factors) for item in operands]
        kept = [array.astype(_array(item).dtype) for array, item in zip(folded, operands, strict=True)]
    if not all(np.isfinite(array).all() for array in kept):
        return "the folded weights are not finite"
    for item, array in zip(operands, kept, strict=True):
        graph = item.node.graph
        assert isinstance(graph, ir.Graph)
        item.node.replace_input_with(item.index, add_initializer(graph, array, names(f"{item.value.name}_scaled")))
    drop_follower(last, node)
    return ""


def _array(operand: Operand) -> Array:
    array = constant_array(operand.value)
    assert array is not None  # a layer's weight and bias are constant, or it were none
    return array


def _multiplied(operand: Operand, factors: Array) -> Array:
    """The operand times one factor for each channel along its axis, in float64."""
    moved = np.moveaxis(_array(operand).astype(np.float64), operand.axis, -1)
    return np.ascontiguousarray(np.moveaxis(moved * factors, -1, operand.axis))
