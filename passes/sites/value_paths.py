"""Values of attention: from the channels of the layer that makes them to the layers that read the joined heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.passes.canonical.forms import Role, role_of
from qcompiler.passes.canonical.matching import behind_casts, producer
from qcompiler.passes.sites.axis_factors import Factor, Track, numbers
from qcompiler.passes.sites.channel_axes import MOVES, behind, start, through_product
from qcompiler.passes.sites.layers import layer_made
from qcompiler.passes.sites.readers import find_readers, reader_of
from qcompiler.passes.sites.records import Channels, Kind, Operand, Reader, Refusal

_STEPS = 24


@dataclass(frozen=True, slots=True)
class ValuePath:
    """One attention: values = layer(..) [part] -> heads -> softmax(..) values -> joined -> readers.

    Attributes:
        joined: What the readers get.
        head: Channels of one head; they lie side by side in the layer and in what is joined.
        weight: Of the layer that makes the values, by output channel.
        bias: Its bias; None where it has none.
        total: Output channels of that layer.
        part: Those that are values, ascending: not all where one layer makes queries and keys too.
        to_source: Channel of the joined heads to place in `part`: heads of grouped queries share values.
        whole: Whether the probabilities of a position sum to 1.
    """

    product: ir.Node
    joined: ir.Value
    head: int
    weight: Operand
    bias: Operand | None
    total: int
    part: Channels
    to_source: Channels
    readers: tuple[Reader, ...]
    whole: bool


def value_paths(model: ir.Model) -> list[ValuePath | Refusal]:
    """Each attention of the model, in graph order."""
    return [_path(node) for node in model.graph if role_of(node) is Role.PV]


def _path(product: ir.Node) -> ValuePath | Refusal:
    def refuse(reason: str) -> Refusal:
        return Refusal(Kind.VALUE, str(product.name), reason)

    source = _layer_above(product)
    made = layer_made(source)
    first = start(source, made[2]) if made is not None and source is not None else None
    if made is None or source is None or first is None:
        return refuse("the values do not come from a layer of their own, split into heads")
    arrived, others = _spread(source, first, product)
    part = arrived.channels() if arrived is not None else None
    if arrived is None or part is None or not part.size:
        return refuse("the values come through operators that mix channels, or whose shapes are not known")
    if any(track is None or np.isin(part, _all_channels(track, made[2])).any() for track in others):
        return refuse("the values are read elsewhere too, or are an output of the model (a cache)")
    track = through_product(product, arrived)
    ends = _joined(product.outputs[0], track) if track is not None else None
    if ends is None:
        return refuse("the heads are not joined behind the product")
    joined, last, offset = ends
    found = find_readers(joined)
    if found.refusal or found.edges or not found.layers:
        return refuse(found.refusal or "other nodes than layers read the joined heads")
    weight = found.layers[0].weight
    channels = weight.value.shape[weight.axis] if weight.value.shape is not None else None
    read = _read_channels(last, offset, channels) if isinstance(channels, int) else None
    head = last[-1].size if last and last[-1].stride == 1 else None
    if read is None or head is None or not np.isin(read, part).all():
        return refuse(f"{part.size} channels of values for {channels} of the output projection")
    held = np.unique(part)
    whole = producer(behind_casts(product.inputs[0]), "Softmax") is not None
    return ValuePath(product, joined, head, made[0], made[1], made[2], held, np.searchsorted(held, read),
                     tuple(found.layers), whole)  # fmt: skip


def _layer_above(product: ir.Node) -> ir.Value | None:
    """What the layer gives whose channels become values."""
    value = product.inputs[1]
    for _ in range(_STEPS):
        node = producer(value)
        if node is None or node.op_type not in MOVES:
            return value
        value = node.inputs[0]
    return None


def _spread(source: ir.Value, first: Track, product: ir.Node) -> tuple[Track | None, list[Track | None]]:
    """Where the channels arrive at the product, and where else; None for what nobody knows of."""
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
            if use.node is product and use.idx == 1 and arrived is None:
                arrived = track
                continue
            on = behind(use.node, track) if use.idx == 0 and use.node.graph is product.graph else None
            if on is None:
                others.append(track)
            else:
                queue += on
    return arrived, others


def _all_channels(track: Track | None, total: int) -> Channels:
    found = track.channels() if track is not None else None
    return np.arange(total) if found is None else found


def _joined(value: ir.Value, track: Track) -> tuple[ir.Value, tuple[Factor, ...], int] | None:
    """The value that layers read, the factors of its last axis, and the channel that these count from."""
    for _ in range(_STEPS):
        if value.is_graph_output():
            return None
        uses = [use for use in value.uses() if use.node.op_type != "Shape"]
        if any(reader_of(use.node, use.idx, -1) is not None for use in uses):
            within = all(item.stride is None for axis in track.axes[:-1] for item in axis)
            return (value, track.axes[-1], track.offset) if within else None
        on = behind(uses[0].node, track) if len(uses) == 1 and uses[0].idx == 0 else None
        if on is None or len(on) != 1:
            return None
        value, track = on[0]
    return None


def _read_channels(factors: tuple[Factor, ...], offset: int, channels: int) -> Channels | None:
    """The source channel of each channel that a reader gets; one size that is not known follows from their number."""
    known = 1
    for item in factors:
        known *= item.size or 1
    if not known or channels % known or sum(item.size is None for item in factors) > 1:
        return None
    sized = [Factor(channels // known, item.stride) if item.size is None else item for item in factors]
    found = numbers(sized, offset)
    return found if found is not None and found.size == channels else None


