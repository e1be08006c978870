"""Values of attention whose heads can be rotated: the layers that make them and those that read them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.passes.rotate.marks import is_marked
from qcompiler.passes.sites.records import Channels, Kind, Operand, Reader, Refusal
from qcompiler.passes.sites.value_paths import ValuePath, value_paths


@dataclass(frozen=True, slots=True)
class HeadValues:
    """One attention.

    Attributes:
        name: Of the joined heads.
        size: Channels of one head.
        made: Weight and, where there is one, bias of the layer that makes the values, by output channel.
        part: Those output channels that are values; None where all are.
        readers: Output projections.
    """

    name: str
    size: int
    made: tuple[Operand, ...]
    part: Channels | None
    readers: tuple[Reader, ...]


def head_values(model: ir.Model) -> list[HeadValues | Refusal]:
    """Each attention whose values come from a layer and whose joined heads only layers read.

    Heads of values may be repeated on the way (Expand, or a product that broadcasts), as all get the same rotation.
    """
    return [item if isinstance(item, Refusal) else _values(item) for item in value_paths(model)]


def _values(path: ValuePath) -> HeadValues | Refusal:
    name = str(path.joined.name)
    if is_marked(path.readers[0].node, "heads"):
        return Refusal(Kind.VALUE, name, "it is rotated already")
    made = (path.weight,) if path.bias is None else (path.weight, path.bias)
    part = None if path.part.size == path.total else path.part
    return HeadValues(name, path.head, made, part, path.readers)
