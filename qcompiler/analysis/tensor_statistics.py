"""Statistics of one activation, sample after sample; memory is that of its channels and a histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.layout import Layout
from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.thresholds import FLOOR, find_threshold, quantization_error

OUTLIER_CHANNEL = 6.0
"""A channel whose absmax exceeds this many times the median channel's is an outlier."""
OUTLIER_TOKEN = 64.0
"""A token whose largest magnitude exceeds this many times the median token's is an outlier."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """By channel: extremes, and the kurtosis of all its elements."""

    low: Floats
    high: Floats
    kurtosis: Floats

    @property
    def absmax(self) -> Floats:
        """Largest magnitude of each channel."""
        return np.maximum(self.high, -self.low)

    @property
    def median(self) -> float:
        """Median over channels of their absmax."""
        return float(np.median(self.absmax))

    @property
    def outliers(self) -> list[int]:
        """Channels above OUTLIER_CHANNEL times the median, the largest first."""
        peaks = self.absmax
        found = np.flatnonzero(peaks > OUTLIER_CHANNEL * self.median)
        return [int(index) for index in found[np.argsort(-peaks[found], kind="stable")]]


@dataclass(frozen=True, slots=True, eq=False)
class TensorSummary:
    """What is reported of one activation over one calibration set.

    Attributes:
        elements: Number of elements, padding left out.
        p9999: 99.99 percentile of |x| over all elements.
        kurtosis: Mean over sequences of mean((x - mu)^4) / (s^4 + 1e-6), s the unbiased deviation (Quantizable
            Transformers, arXiv:2306.12929, as its code has it).
        inf_norm: Mean over sequences of max |x|; the model's maximum infinity norm is the largest over tensors.
        token_share: Share of tokens whose maximum exceeds OUTLIER_TOKEN times the median one; None without channels.
        absmax_first: Largest magnitude of first tokens; None without a sequence.
        absmax_rest: Largest magnitude of all later tokens.
        lost_db: Noise with one range (mse) over the noise with a range for each channel, none above the one, in dB: the
            most that moving channel ranges into weights can win here. None without channels.
    """

    name: str
    layout: Layout
    elements: int
    low: float
    high: float
    p9999: float
    kurtosis: float
    inf_norm: float
    channels: Channels | None
    token_share: float | None
    absmax_first: float | None
    absmax_rest: float | None
    lost_db: float | None

    @property
    def absmax(self) -> float:
        """Largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def ratio(self) -> float | None:
        """absmax over the median channel's absmax; None without channels, or where half of them are zero."""
        return self.absmax / self.channels.median if self.channels is not None and self.channels.median else None


class TensorStatistics:
    """Sums, extremes and histograms of one activation."""

    def __init__(self, name: str, layout: Layout) -> None:
        self.name, self.layout = name, layout
        self.histogram = Histogram()
        self._token_peaks = Histogram()
        self._sums: Floats | None = None  # [power 1 to 4, channels]
        self._low = self._high = np.zeros(0)
        self._kurtosis = self._norm = 0.0
        self._sequences = self._rows = 0
        self._first = self._rest = -1.0

    def observe(self, sequence: np.ndarray[Any, Any], histogram: Histogram) -> None:
        """Take in one sequence (or image) without its padding; `histogram` is its own, made by the caller."""
        if not sequence.size:
            return
        self.histogram = self.histogram.merge(histogram)
        rows = self._by_channel(sequence)
        wide = rows.astype(np.float64)
        square = wide * wide
        sums = np.stack([wide.sum(0), square.sum(0), np.einsum("tc,tc->c", square, wide),
                         np.einsum("tc,tc->c", square, square)])  # fmt: skip
        self._kurtosis += _kurtosis(sums.sum(axis=1), wide.size)
        low, high = wide.min(0), wide.max(0)
        self._norm += max(float(high.max()), -float(low.min()))
        self._sequences += 1
        self._rows += len(rows)
        if self._sums is None:
            self._sums, self._low, self._high = sums, low, high
        else:
            self._sums += sums
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        if self.layout.channel is not None:
            self._token_peaks = self._token_peaks.observe(np.abs(rows).max(axis=1))
        if self.layout.token is not None:
            along = np.moveaxis(sequence, self.layout.token, 0)
            self._first = max(self._first, float(np.abs(along[0]).max()))
            self._rest = max(self._rest, float(np.abs(along[1:]).max(initial=-1.0)))

    def summary(self, qmax: int) -> TensorSummary:
        """The figures so far; at least one sequence must have come."""
        low, high = self.histogram.range()
        channels = self._channels()
        return TensorSummary(
            self.name, self.layout, self.histogram.count, low, high,
            find_threshold(self.histogram, "percentile", qmax=qmax).value,
            self._kurtosis / self._sequences, self._norm / self._sequences, channels,
            None if channels is None else _share_above(self._token_peaks, OUTLIER_TOKEN),
            self._first if self._first >= 0 else None, self._rest if self._rest >= 0 else None,
            None if channels is None else self._lost(channels, qmax),
        )  # fmt: skip

    def _by_channel(self, sequence: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """[elements of a channel, channels]; one column where there are no channels, or their number changes."""
        axis = self.layout.channel
        if axis is not None and self._sums is not None and sequence.shape[axis] != self._sums.shape[1]:
            self.layout, axis = Layout(None, self.layout.token), None
            self._sums = self._sums.sum(axis=1, keepdims=True)
            self._low, self._high = self._low.min(keepdims=True), self._high.max(keepdims=True)
        if axis is None:
            return sequence.reshape(-1, 1)
        return np.moveaxis(sequence, axis, -1).reshape(-1, sequence.shape[axis])

    def _channels(self) -> Channels | None:
        if self.layout.channel is None or self._sums is None or self._sums.shape[1] < 2:
            return None
        kurtosis = np.array([_kurtosis(self._sums[:, index], self._rows) for index in range(self._sums.shape[1])])
        return Channels(self._low, self._high, kurtosis)

    def _lost(self, channels: Channels, qmax: int) -> float:
        if self.histogram.absmax <= FLOOR:
            return 0.0
        threshold = find_threshold(self.histogram, "mse", qmax=qmax).value
        shared = float(quantization_error(self.histogram, [threshold])[0])
        clipping = max(0.0, shared - (threshold / qmax) ** 2 / 12)
        own = clipping + float(np.mean(np.square(np.minimum(channels.absmax, threshold) / qmax))) / 12
        return max(0.0, 10 * float(np.log10(shared / own))) if shared and own else 0.0


def _kurtosis(sums: Floats, count: int) -> float:
    """From the sums of x, x^2, x^3, x^4; 0 for fewer than two elements."""
    if count < 2:
        return 0.0
    mean, second, third, fourth = sums / count
    variance = max(second - mean * mean, 0.0) * count / (count - 1)
    central = max(fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4, 0.0)
    return float(central / (variance**2 + 1e-6))


def _share_above(peaks: Histogram, times: float) -> float:
    """Share of the elements above `times` their median; edges of bins are within 0.8 % of the elements."""
    lower, upper, counts = peaks.bins()
    total = np.cumsum(counts)
    middle = int(np.searchsorted(total, total[-1] / 2))
    median = (lower[middle] + upper[middle]) / 2
    return float(counts[lower > times * median].sum() / total[-1])
