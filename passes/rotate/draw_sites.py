"""Sites whose signs and order can be judged before they are rotated: by the layers that read them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qcompiler.passes.equalize.sample_rows import input_axis
from qcompiler.passes.rotate.draws import Draw
from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.hadamard import factors
from qcompiler.passes.rotate.head_values import HeadValues, head_values
from qcompiler.passes.rotate.hidden_makers import hidden_makers
from qcompiler.passes.rotate.insert_rotation import online_turn
from qcompiler.passes.rotate.residual_streams import Stream, residual_streams
from qcompiler.passes.rotate.rotate_down import down_sites
from qcompiler.passes.rotate.rotate_heads import heads_turn
from qcompiler.passes.rotate.rotate_residual import stream_turn, turn_stream
from qcompiler.passes.rotate.rotations import Kind, Rotation
from qcompiler.passes.rotate.turn import Turn, WeightEditor
from qcompiler.passes.sites.records import Kind as SiteKind
from qcompiler.passes.sites.records import Reader, Site


@dataclass(frozen=True, slots=True)
class DrawSite:
    """What one draw decides.

    Attributes:
        name: Of the site of the rotation.
        channels: That the draw orders: of a stream, of one head, of hidden channels.
        parts: (m, b), the sizes of the two factors; m is 1 where the matrix is one.
        tensors: What is quantized behind the rotation, each with its quantized readers.
        free: Whether every order can be made, and not only products of two.
        turn: A draw to its matrix.
    """

    kind: Kind
    name: str
    channels: int
    parts: tuple[int, int]
    tensors: tuple[Site, ...]
    free: bool
    turn: Callable[[Draw], Turn]


def draw_sites(model: ir.Model, taken: Sequence[Rotation], quantized: Collection[str]) -> list[DrawSite]:
    """The sites of these rotations but for scores, whose products no layer reads.

    Gains and biases of norms go into their readers, as the rotation does it, for what is read then is what is turned.

    Args:
        model: A copy, which is changed.
        quantized: Names of layers that read integers.
    """
    wanted = {item.kind: frozenset(item.sites) for item in taken}
    found: list[DrawSite] = []
    streams = [item for item in residual_streams(model) if isinstance(item, Stream)]
    heads = [item for item in head_values(model) if isinstance(item, HeadValues)]
    for stream in streams:
        if stream.name in wanted.get("residual", ()):
            tensors = (*stream.norms, *_read_directly(stream.readers))
            found.append(_site("residual", stream.name, stream.channels, tensors, _stream_turner(stream)))
    for item in heads:
        if item.name in wanted.get("heads", ()):
            turn = _heads_turner(item.size)
            found.append(_site("heads", item.name, item.size, tuple(_read_directly(item.readers)), turn))
    online: tuple[tuple[Kind, list[Site]], ...] = (
        ("down", [item for item in down_sites(model) if isinstance(item, Site)]),
        ("gated", [item for item in gated_sites(model) if isinstance(item, Site)]),
    )
    for kind, sites in online:
        found += [_in_front(kind, site) for site in sites if site.name in wanted.get(kind, ())]
    editor = WeightEditor(model)
    for stream in streams:
        if stream.name in wanted.get("residual", ()):
            turn_stream(editor, stream, Turn(np.ones((1, 1))))
    kept = [replace(item, tensors=tuple(_quantized(item.tensors, quantized))) for item in found]
    return [item for item in kept if item.tensors]


def _site(kind: Kind, name: str, channels: int, tensors: tuple[Site, ...], turn: Callable[[Draw], Turn]) -> DrawSite:
    return DrawSite(kind, name, channels, (1, channels), tensors, True, turn)


def _in_front(kind: Kind, site: Site) -> DrawSite:
    parts = factors(site.channels)
    free = parts[0] == 1 or hidden_makers(site.value, site.channels) is not None
    return DrawSite(kind, site.name, site.channels, parts, (site,), free, lambda draw: online_turn(site.channels, draw))


def _stream_turner(stream: Stream) -> Callable[[Draw], Turn]:
    return lambda draw: stream_turn(stream, draw)


def _heads_turner(size: int) -> Callable[[Draw], Turn]:
    return lambda draw: heads_turn(size, draw)


def _read_directly(readers: Sequence[Reader]) -> Iterator[Site]:
    """Tensors that layers read, as sites."""
    values = {reader.node.inputs[0]: reader.node for reader in readers}
    for value, node in values.items():
        size = node.inputs[1].const_value.shape.numpy() if node.inputs[1] and node.inputs[1].const_value else ()
        axis = next(reader.weight.axis for reader in readers if reader.node is node)
        if value is not None and size:
            same = tuple(reader for reader in readers if reader.node.inputs[0] is value)
            yield Site(SiteKind.LINEAR, value, size[axis], (), None, same, axis=input_axis(node), shifts=False)


def _quantized(tensors: Sequence[Site], names: Collection[str]) -> Iterator[Site]:
    """With the readers that are quantized matrices."""
    for site in tensors:
        readers = tuple(item for item in site.readers if str(item.node.name) in names and _is_matrix(item))
        if readers:
            yield replace(site, readers=readers)


def _is_matrix(reader: Reader) -> bool:
    shape = reader.weight.value.const_value.shape.numpy() if reader.weight.value.const_value is not None else ()
    return len(shape) >= 2 and all(size == 1 for size in shape[2:])
