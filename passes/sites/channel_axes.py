"""Where the channels of a layer lie behind operators that split, join, move, repeat or select axes."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph import constant_array, rank
from qcompiler.passes.sites.axis_factors import Axis, Factor, Track, has_channels, length, other, repeated
from qcompiler.passes.sites.reshaped_axes import regrouped

MOVES = frozenset({
    "Identity", "Cast", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Split", "Slice", "Gather", "Expand",
})  # fmt: skip


def start(value: ir.Value, channels: int) -> Track | None:
    """What a layer gives: its channels are the last axis."""
    if value.shape is None or not len(value.shape):
        return None
    return Track((*(other(size) for size in list(value.shape)[:-1]), (Factor(channels, 1),)))


def behind(node: ir.Node, track: Track) -> list[tuple[ir.Value, Track]] | None:
    """The outputs of a node whose first input is followed; None where channels are mixed or lost sight of.

    Sizes that are not known count as one factor each. What is wrongly taken for a rearrangement that way would have to
    be one that no shape tells apart from the usual one; the certificate of the rewrite has the last word.
    """
    if node.domain != "" or node.op_type not in MOVES:
        return None
    if node.op_type == "Split":
        return _split(node, track)
    made = _one(node, track)
    return None if made is None else [(node.outputs[0], made)]


def through_product(node: ir.Node, track: Track) -> Track | None:
    """Behind probabilities x values, of the values: positions are summed, missing batch axes repeat channels."""
    out = node.outputs[0].shape
    if out is None or len(track.axes) < 2 or has_channels(track.axes[-2]) or len(out) < len(track.axes):
        return None
    sizes = list(out)
    batch = [()] * (len(sizes) - len(track.axes)) + list(track.axes[:-2])
    axes = [axis or repeated(size) for axis, size in zip(batch, sizes[:-2], strict=True)]
    return Track((*axes, other(sizes[-2]), track.axes[-1]), track.offset)


def _one(node: ir.Node, track: Track) -> Track | None:
    op, axes = node.op_type, list(track.axes)
    if op in ("Identity", "Cast"):
        return track
    if op == "Transpose":
        held = node.attributes.get("perm")
        order = list(held.value) if held is not None else list(range(len(axes)))[::-1]
        return Track(tuple(axes[place] for place in order), track.offset)
    if op in ("Unsqueeze", "Squeeze"):
        return _squeezed(node, track)
    if op in ("Reshape", "Flatten"):
        made = regrouped(axes, node)
        return None if made is None else Track(made, track.offset)
    if op == "Slice":
        return _sliced(node, track)
    if op == "Gather":
        return _gathered(node, track)
    shape = node.outputs[0].shape  # Expand
    if shape is None or len(shape) < len(axes):
        return None
    wide = [()] * (len(shape) - len(axes)) + axes
    return Track(tuple(axis or repeated(size) for axis, size in zip(wide, shape, strict=True)), track.offset)


def _squeezed(node: ir.Node, track: Track) -> Track | None:
    array = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if array is None:
        return None
    axes = list(track.axes)
    if node.op_type == "Unsqueeze":
        dims = len(axes) + array.size
        for place in sorted(int(item) % dims for item in array.reshape(-1)):
            axes.insert(place, ())
        return Track(tuple(axes), track.offset)
    gone = {int(item) % len(axes) for item in array.reshape(-1)}
    if any(has_channels(axes[place]) for place in gone):
        return None
    return Track(tuple(axis for place, axis in enumerate(axes) if place not in gone), track.offset)


def _split(node: ir.Node, track: Track) -> list[tuple[ir.Value, Track]] | None:
    place = node.attributes.get_int("axis", 0) % len(track.axes)
    found, first = [], 0
    for output in node.outputs:
        size = output.shape[place] if output.shape is not None else None
        if not has_channels(track.axes[place]):
            part: Track | None = _with_axis(track, place, other(size))
        else:
            part = _part(track, place, first, size) if isinstance(size, int) else None
            first += size if isinstance(size, int) else 0
        if part is None:
            return None
        found.append((output, part))
    return found


def _sliced(node: ir.Node, track: Track) -> Track | None:
    shape, dims = node.outputs[0].shape, len(track.axes)
    given = [constant_array(item) if item is not None else None for item in node.inputs[1:]]
    starts = given[0] if given else None
    axes = given[2] if len(given) > 2 else None
    if starts is None or shape is None or (len(given) > 2 and axes is None):
        return None
    if len(given) > 3 and (given[3] is None or (given[3] != 1).any()):
        return None
    places = [int(item) % dims for item in axes.reshape(-1)] if axes is not None else list(range(starts.size))
    for place, first in zip(places, starts.reshape(-1).tolist(), strict=False):
        size, whole = shape[place], length(track.axes[place])
        if not has_channels(track.axes[place]):
            track = _with_axis(track, place, other(size))
            continue
        made = _part(track, place, first % whole, size) if whole and isinstance(size, int) else None
        if made is None:
            return None
        track = made
    return track


def _gathered(node: ir.Node, track: Track) -> Track | None:
    place = node.attributes.get_int("axis", 0) % len(track.axes)
    dims, index = rank(node.inputs[1]), constant_array(node.inputs[1])
    shape = node.outputs[0].shape
    if dims is None or shape is None:
        return None
    axes = list(track.axes)
    if not has_channels(axes[place]):
        axes[place : place + 1] = [other(size) for size in list(shape)[place : place + dims]]
        return Track(tuple(axes), track.offset)
    whole = length(axes[place])
    if index is None or index.size != 1 or not whole:
        return None
    made = _part(track, place, int(index.reshape(-1)[0]) % whole, 1)
    if made is None:
        return None
    axes[place : place + 1] = [()] * dims
    return Track(tuple(axes), made.offset)


def _part(track: Track, place: int, first: int, size: int) -> Track | None:
    """Indices first .. first + size of an axis, where they are all of its inner factors times some of the outermost;
    of a single index any."""
    axis, offset, inner = list(track.axes[place]), track.offset, 1
    for at in range(len(axis) - 1, -1, -1):
        many, stride = axis[at].size, axis[at].stride
        if many is None or stride is None:
            return None
        if size == 1:  # all factors are indexed
            offset += (first // inner) % many * stride
        elif at == 0:
            if size % inner or first % inner:
                return None
            offset += first // inner * stride
            axis[0] = Factor(size // inner, stride)
        inner *= many
    left = () if size == 1 else tuple(item for item in axis if item.size != 1)
    return _with_axis(Track(track.axes, offset), place, left)


def _with_axis(track: Track, place: int, axis: Axis) -> Track:
    return Track((*track.axes[:place], axis, *track.axes[place + 1 :]), track.offset)
