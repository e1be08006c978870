"""An axis as the product of parts, of which some number the channels of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.passes.sites.records import Channels


@dataclass(frozen=True, slots=True)
class Factor:
    """A part of an axis: its index runs over `size` values (None: not known), of which each is `stride` channels away
    from the last; a stride of 0 repeats channels, None says that the index is no part of a channel's number."""

    size: int | None
    stride: int | None


Axis = tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Track:
    """Channel = offset + sum of index * stride over the factors of all axes; an axis of length 1 has no factor."""

    axes: tuple[Axis, ...]
    offset: int = 0

    def channels(self) -> Channels | None:
        """Every channel that occurs, in the order of the axes; None where a size is not known."""
        return numbers([item for axis in self.axes for item in axis if item.stride], self.offset)


def numbers(factors: Sequence[Factor], offset: int) -> Channels | None:
    """offset + sum of index * stride, the last factor fastest."""
    found = np.array([offset], np.int64)
    for item in factors:
        if item.size is None or item.stride is None:
            return None
        found = (found[:, None] + item.stride * np.arange(item.size)).reshape(-1)
    return found


def other(size: int | ir.SymbolicDim | None) -> Axis:
    """An axis that is no part of a channel's number."""
    known = size if isinstance(size, int) else None
    return () if known == 1 else (Factor(known, None),)


def repeated(size: int | ir.SymbolicDim | None) -> Axis:
    """An axis of length 1, repeated."""
    known = size if isinstance(size, int) else None
    return () if known == 1 else (Factor(known, 0),)


def has_channels(axis: Sequence[Factor]) -> bool:
    """Whether a channel's number depends on the index, or channels are repeated along it."""
    return any(item.stride is not None for item in axis)


def length(axis: Axis) -> int:
    """How long it is; 0 where that is not known."""
    found = 1
    for item in axis:
        found *= item.size or 0
    return found
