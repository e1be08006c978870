"""Observers: what calibration remembers of a tensor. Immutable, mergeable in any order with the same result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler.errors import CalibrationError

BINS_PER_OCTAVE = 128
_NON_FINITE = 255 * BINS_PER_OCTAVE  # the first bin of the exponent that IEEE 754 keeps for infinity and NaN
_CHUNK = 1 << 17  # elements whose keys stay in the cache

Array = np.ndarray[Any, Any]
Counts = npt.NDArray[np.int64]


class Observer(Protocol):
    """Statistics of one tensor over batches."""

    def observe(self, array: Array) -> Observer:
        """These statistics and those of `array`; non-finite content raises CalibrationError."""
        ...

    def merge(self, other: Any) -> Observer:
        """The statistics of both; associative and commutative."""
        ...

    def range(self) -> tuple[float, float]:
        """Smallest and largest element; (0, 0) before any."""
        ...


@dataclass(frozen=True, slots=True)
class MinMax:
    """Smallest and largest element, and how many there were."""

    low: float = np.inf
    high: float = -np.inf
    count: int = 0

    def observe(self, array: Array) -> MinMax:
        """See Observer."""
        if array.size == 0:
            return self
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise CalibrationError("an activation is NaN or infinite")
        return self.merge(MinMax(low, high, array.size))

    def merge(self, other: MinMax) -> MinMax:
        """See Observer."""
        return MinMax(min(self.low, other.low), max(self.high, other.high), self.count + other.count)

    def range(self) -> tuple[float, float]:
        """See Observer."""
        return (self.low, self.high) if self.count else (0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelRanges:
    """Smallest and largest element of each channel along `axis`, zero included; both (channels,), float32."""

    axis: int = 1
    low: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    high: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def observe(self, array: Array) -> ChannelRanges:
        """The ranges of both; the array must have a dimension `axis`, which may count from the end."""
        axis = self.axis % array.ndim
        others = tuple(index for index in range(array.ndim) if index != axis)
        high = np.asarray(array.max(axis=others, initial=0), np.float32)
        low = np.asarray(array.min(axis=others, initial=0), np.float32)
        if not (np.isfinite(high).all() and np.isfinite(low).all()):
            raise CalibrationError("an activation is NaN or infinite")
        return self.merge(ChannelRanges(self.axis, low, high))

    def merge(self, other: ChannelRanges) -> ChannelRanges:
        """The wider of both, channel by channel; nothing seen yet counts as zeros."""
        if not self.high.size or not other.high.size:
            return other if other.high.size else self
        return ChannelRanges(self.axis, np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def peaks(self) -> npt.NDArray[np.float32]:
        """The largest magnitude of each channel."""
        return np.maximum(self.high, -self.low)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of |x| in bins that are the float32 numbers with the same exponent and 7 leading mantissa bits.

    Such a bin is 1/128 of its octave wide, whatever the range: no rescaling when a larger value comes, so merging adds
    integers and is exact; small values keep their resolution beside large outliers. Bin k holds the numbers whose upper
    16 bits, without the sign, equal k (the layout of bfloat16), which costs one pass over the data.

    Attributes:
        counts: int64 by bin, up to the last bin in use.
        low: Exact smallest element; inf before any.
        high: Exact largest element; -inf before any.
    """

    counts: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    low: float = np.inf
    high: float = -np.inf

    def observe(self, array: Array) -> Histogram:
        """See Observer. Other float types are rounded to float32 first."""
        flat = array.reshape(-1)
        if flat.size == 0:
            return self
        counts, low, high = self.counts, self.low, self.high
        for chunk in _float32_chunks(flat):
            keys = chunk.view(np.uint16)[_UPPER_HALF] & np.uint16(0x7FFF)
            found = np.bincount(keys, minlength=counts.size)
            if found.size > _NON_FINITE:
                raise CalibrationError("an activation is NaN or infinite")
            found[: counts.size] += counts
            counts, low, high = found, min(low, float(chunk.min())), max(high, float(chunk.max()))
        return Histogram(counts, low, high)

    def merge(self, other: Histogram) -> Histogram:
        """See Observer."""
        return Histogram(_add(self.counts.copy(), other.counts), min(self.low, other.low), max(self.high, other.high))

    def range(self) -> tuple[float, float]:
        """See Observer."""
        return (self.low, self.high) if self.low <= self.high else (0.0, 0.0)

    @property
    def count(self) -> int:
        """Number of elements."""
        return int(self.counts.sum())

    @property
    def absmax(self) -> float:
        """Exact largest |x|."""
        return max(abs(bound) for bound in self.range())

    def bins(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Counts]:
        """Lower edges, upper edges and counts of the bins in use; no upper edge lies above `absmax`."""
        used = np.flatnonzero(self.counts)
        upper = np.minimum(bin_edges(used + 1), self.absmax)
        return bin_edges(used), upper, self.counts[used]

    def smallest(self, share: float) -> Histogram:
        """About this share of the elements, those of smallest magnitude, in whole bins."""
        last = int(np.searchsorted(np.cumsum(self.counts), share * self.count))
        edge = min(float(bin_edges(np.asarray([last + 1]))[0]), self.absmax)
        return Histogram(self.counts[: last + 1], max(self.low, -edge), min(self.high, edge))

    @property
    def mean_square(self) -> float:
        """E[x^2] from the bins' own second moments; within 0.8 % of the exact value, mostly far closer."""
        lower, upper, counts = self.bins()
        total = counts.sum()
        return float(counts @ (lower * lower + lower * upper + upper * upper) / (3 * total)) if total else 0.0


_UPPER_HALF = slice(1 if np.little_endian else 0, None, 2)


def bin_edges(bins: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """The smallest number of each bin."""
    return (bins.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def _float32_chunks(flat: Array) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, flat.size, _CHUNK):
        with np.errstate(over="ignore"):  # an overflow becomes infinite and is reported as such
            yield np.ascontiguousarray(flat[start : start + _CHUNK], np.float32)


def _add(mine: Counts, other: Counts) -> Counts:
    """The sum by bin; may reuse `mine`."""
    if other.size > mine.size:
        mine = np.concatenate([mine, np.zeros(other.size - mine.size, np.int64)])
    mine[: other.size] += other
    return mine
