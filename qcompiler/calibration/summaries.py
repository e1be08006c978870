"""What is kept of the histograms for whoever reads the report: few bins, and where the codes end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.calibration.observers import Histogram
from qcompiler.plan import QuantPlan
from qcompiler.scheme import TensorQuant

BINS = 64


@dataclass(frozen=True, slots=True)
class HistogramSummary:
    """One quantized tensor.

    Attributes:
        low: Smallest element that calibration saw.
        high: Largest element.
        counts: Elements by |x| in 64 even bins over [0, the largest magnitude].
        reach: The numbers that the smallest and the largest code stand for.
        clipped: Share of the elements whose magnitude is larger than that of either.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    reach: tuple[float, float]
    clipped: float


def summarise(
    histograms: Mapping[str, Histogram], plan: QuantPlan, sources: Mapping[str, str]
) -> dict[str, HistogramSummary]:
    """Summaries of the tensors that the plan quantizes with one scale and calibration saw, in the plan's order.

    Args:
        sources: Tensor to the one that was observed for it, where that is another (before a Reshape).
    """
    seen = {name: histograms.get(sources.get(name, name), Histogram()) for name in plan.tensors}
    return {
        name: _summary(seen[name], quant)
        for name, quant in plan.tensors.items()
        if seen[name].count and quant.axis is None
    }


def _summary(histogram: Histogram, quant: TensorQuant) -> HistogramSummary:
    low, high = histogram.range()
    zero = 0 if quant.zero_point is None else int(quant.zero_point)
    scale = float(quant.scale)
    reach = ((quant.scheme.qmin - zero) * scale, (quant.scheme.qmax - zero) * scale)
    lower, upper, counts = histogram.bins()
    threshold = max(map(abs, reach))
    inside = np.clip((threshold - lower) / np.maximum(upper - lower, 1e-300), 0.0, 1.0)
    clipped = 0.0 if threshold >= histogram.absmax else float(counts @ (1.0 - inside) / counts.sum())
    # a fine bin is narrower than one of these 64: it goes whole into that of its middle, so that no outlier is lost
    place = np.minimum(((lower + upper) / 2 * (BINS / max(histogram.absmax, 1e-300))).astype(np.int64), BINS - 1)
    coarse = np.bincount(place, counts, BINS).astype(np.int64)
    return HistogramSummary(low, high, tuple(coarse.tolist()), reach, clipped)
