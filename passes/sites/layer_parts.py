"""From a value up to the layer that makes its channels, and from there to every place where they arrive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.passes.canonical.matching import producer
from qcompiler.passes.sites.axis_factors import Track
from qcompiler.passes.sites.channel_axes import MOVES, behind, start
from qcompiler.passes.sites.layers import layer_made
from qcompiler.passes.sites.records import Channels, Operand

_STEPS = 24


@dataclass(frozen=True, slots=True)
class LayerPart:
    """A layer, and those of its output channels that one input of a node gets.

    Attributes:
        weight: By output channel.
        total: Output channels of the layer.
        arrived: Where the channels lie at the node; None where they were lost sight of.
        others: The same for all other places; None for what nobody knows of.
    """

    weight: Operand
    bias: Operand | None
    total: int
    arrived: Track | None
    others: tuple[Track | None, ...]

    def shares(self, part: Channels) -> bool:
        """Whether one of these channels arrives elsewhere too."""
        return any(track is None or np.isin(part, _channels(track, self.total)).any() for track in self.others)


def layer_part(node: ir.Node, index: int) -> LayerPart | None:
    """The layer above an input of a node, through layout operators; None where there is none."""
    source = _layer_above(node.inputs[index])
    made = layer_made(source)
    first = start(source, made[2]) if made is not None and source is not None else None
    if made is None or source is None or first is None:
        return None
    arrived, others = _spread(source, first, node, index)
    return LayerPart(*made, arrived, tuple(others))


def _layer_above(value: ir.Value | None) -> ir.Value | None:
    """What the layer gives whose channels the value has."""
    for _ in range(_STEPS):
        node = producer(value)
        if node is None or node.op_type not in MOVES:
            return value
        value = node.inputs[0]
    return None


def _spread(source: ir.Value, first: Track, node: ir.Node, index: int) -> tuple[Track | None, list[Track | None]]:
    """Where the channels arrive at the node's input, and where else."""
    arrived: Track | None = None
    others: list[Track | None] = []
    queue = [(source, first)]
    while queue:
        value, track = queue.pop()
        if value.is_graph_output():
            others.append(track)
        for use in value.uses():
            if use.node.op_type == "Shape":
                continue
            if use.node is node and use.idx == index and arrived is None:
                arrived = track
                continue
            on = behind(use.node, track) if use.idx == 0 and use.node.graph is node.graph else None
            if on is None:
                others.append(track)
            else:
                queue += on
    return arrived, others


def _channels(track: Track, total: int) -> Channels:
    found = track.channels()
    return np.arange(total) if found is None else found
