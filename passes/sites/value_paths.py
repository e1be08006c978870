"""Values of attention: from the channels of the layer that makes them to the layers that read the joined heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.passes.canonical.forms import Role, role_of
from qcompiler.passes.canonical.matching import behind_casts, producer
from qcompiler.passes.sites.axis_factors import Factor, Track, numbers
from qcompiler.passes.sites.channel_axes import behind, through_product
from qcompiler.passes.sites.layer_parts import layer_part
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

    made = layer_part(product, 1)
    if made is None:
        return refuse("the values do not come from a layer of their own, split into heads")
    arrived = made.arrived
    part = arrived.channels() if arrived is not None else None
    if arrived is None or part is None or not part.size:
        return refuse("the values come through operators that mix channels, or whose shapes are not known")
    if made.shares(part):
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
    return ValuePath(product, joined, head, made.weight, made.bias, made.total, held, np.searchsorted(held, read),
                     tuple(found.layers), whole)  # fmt: skip


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


