"""Bootstrap draws of samples, and the histograms of each draw, collected in one pass over the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.observers import Histogram

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Draws:
    """Which samples each draw takes: `seeds` draws of each of `sizes`, with replacement.

    The draws of one seed are nested: the smaller one is the beginning of the larger. The same numbers serve every
    calibration set and every clipping rule, so that their differences are not those of the draws.
    """

    samples: int
    sizes: tuple[int, ...]
    seeds: int

    def times(self) -> Counts:
        """How often each draw takes each sample, [size, seed, sample]."""
        found = np.zeros((len(self.sizes), self.seeds, self.samples), np.int64)
        for seed in range(self.seeds):
            order = np.random.default_rng([2405, seed]).integers(self.samples, size=max(self.sizes))
            for row, size in enumerate(self.sizes):
                found[row, seed] = np.bincount(order[:size], minlength=self.samples)
        return found


class DrawHistograms:
    """The histogram of one tensor for each of several draws; memory does not depend on the number of samples."""

    def __init__(self, draws: int) -> None:
        self._counts = np.zeros((draws, 0), np.int32)
        self._low, self._high = np.full(draws, np.inf), np.full(draws, -np.inf)

    def add(self, histogram: Histogram, times: Counts) -> None:
        """Count the histogram of one sample `times[i]` times in draw i."""
        used = np.flatnonzero(times)
        if not used.size or not histogram.counts.size:
            return
        grown = histogram.counts.size - self._counts.shape[1]
        if grown > 0:
            self._counts = np.pad(self._counts, ((0, 0), (0, grown)))
        bins = np.flatnonzero(histogram.counts)
        added = times[used, None] * histogram.counts[None, bins]
        self._counts[np.ix_(used, bins)] += added.astype(np.int32)
        self._low[used] = np.minimum(self._low[used], histogram.low)
        self._high[used] = np.maximum(self._high[used], histogram.high)

    def histograms(self) -> list[Histogram]:
        """One for each draw."""
        return [
            Histogram(counts.astype(np.int64), float(low), float(high))
            for counts, low, high in zip(self._counts, self._low, self._high, strict=True)
        ]


def default_sizes(samples: int, wanted: Sequence[int] = (1, 8, 32, 128)) -> tuple[int, ...]:
    """Those of `wanted` that the samples allow; and all samples, where they are half as many again and still fewer."""
    allowed = [size for size in wanted if size <= samples] or [samples]
    more = [samples] if samples < max(wanted) and samples >= 1.5 * allowed[-1] else []
    return (*allowed, *more)
