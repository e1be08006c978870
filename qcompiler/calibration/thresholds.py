"""Clipping thresholds from a histogram: where symmetric quantization cuts |x|.

minmax: the exact maximum, as used with TensorRT by Wu et al., "Integer Quantization for Deep Learning Inference"
(arXiv:2004.09602), section 3; percentile and entropy are described there too. mse: the threshold that minimises
E[(x - Q(x))^2]. entropy: the threshold that minimises the KL divergence between the distribution and its quantized
form, after Migacz, "8-bit Inference with TensorRT" (GTC 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.observers import BINS_PER_OCTAVE, Histogram, bin_edges

Method = Literal["minmax", "percentile", "mse", "entropy"]
FLOOR = 2.0**-30
"""Tensors that never exceed this are dead: a scale this small would be denormal in float16 and rounds weights away."""

_ENTROPY_BINS = 2048
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where |x| is clipped.

    Attributes:
        value: Positive and finite.
        dead: The tensor was zero, denormal or empty in calibration; `value` is then a stand-in of 1.
        clipped: Share of elements above `value`.
    """

    value: float
    dead: bool
    clipped: float


def find_threshold(histogram: Histogram, method: Method, *, qmax: int = 127, percentile: float = 99.99) -> Threshold:
    """The threshold and what it costs; ValueError for an unknown method."""
    if histogram.absmax <= FLOOR:
        return Threshold(1.0, True, 0.0)
    if method == "minmax":
        value = histogram.absmax
    elif method == "percentile":
        value = _percentile(histogram, percentile)
    elif method == "mse":
        value = _least_squares(histogram, qmax)
    elif method == "entropy":
        value = _entropy(histogram, qmax)
    else:
        raise ValueError(f"unknown calibration method {method!r}")
    if value <= FLOOR:  # nearly all elements are zero: clipping there would lose the rest
        value = histogram.absmax
    lower, upper, counts = histogram.bins()
    inside = np.clip((value - lower) / np.maximum(upper - lower, 1e-300), 0.0, 1.0)
    clipped = 0.0 if value >= histogram.absmax else float(counts @ (1.0 - inside) / counts.sum())
    return Threshold(value, False, clipped)


def least_error_threshold(histogram: Histogram, power: float, qmax: int = 127) -> float:
    """The threshold that minimises E|x - Q(x)|^power; infinity gives the maximum, 2 the same as "mse".

    Powers above 2 weigh the rare large errors of clipping against the common small ones of rounding. Other powers than
    2 are evaluated on four points per bin, at most 16 octaves below the maximum, for thresholds half an octave apart
    down to 1/16 of the maximum, then 1/8 octave apart around the best.
    """
    top = histogram.absmax
    if top <= FLOOR or power == np.inf:
        return find_threshold(histogram, "minmax", qmax=qmax).value
    if power == 2:
        return find_threshold(histogram, "mse", qmax=qmax).value
    lower, upper, counts = histogram.bins()
    used = np.flatnonzero(counts)
    used = used[used >= used[-1] - 16 * BINS_PER_OCTAVE]
    low, high, weight = lower[used], np.minimum(upper[used], top), counts[used] / counts.sum()
    points = low + np.linspace(0.125, 0.875, 4)[:, None] * (high - low)

    def loss(value: float) -> float:
        step = value / qmax
        error = np.abs(points - np.minimum(np.round(points / step), qmax) * step)
        return float(_power(error, power).mean(axis=0) @ weight)

    coarse = min(range(0, 33, 4), key=lambda eighths: loss(top * 2 ** (-eighths / 8)))
    fine = range(max(coarse - 3, 0), min(coarse + 4, 33))
    return float(top * 2 ** (-min(fine, key=lambda eighths: loss(top * 2 ** (-eighths / 8))) / 8))


def _power(error: Floats, power: float) -> Floats:
    """error ** power, many times faster where the power is a multiple of 1/4 (math libraries' pow is slow)."""
    quarters = round(power * 4)
    if quarters != power * 4:
        return np.asarray(error**power)
    whole, rest = divmod(quarters, 4)
    result = np.ones_like(error) if rest == 0 else np.sqrt(error)
    if rest % 2:
        root = np.sqrt(result)
        result = root if rest == 1 else result * root
    for _ in range(whole):
        result *= error
    return result


def threshold(histogram: Histogram, method: Method, *, qmax: int = 127, percentile: float = 99.99) -> float:
    """Where |x| is clipped; the scale is this over `qmax`."""
    return find_threshold(histogram, method, qmax=qmax, percentile=percentile).value


def quantization_error(histogram: Histogram, thresholds: Any, qmax: int = 127) -> Floats:
    """E[(x - Q(x))^2] for each threshold, exact for elements spread evenly within their bins.

    With step d, the squared rounding error summed from 0 to x is n d^3 / 12 + (x - n d)^3 / 3, n the code of x; so each
    bin costs one evaluation, however many steps it spans. Beyond the last code the formula is the clipping error.
    Elements below 2^-24 of the maximum count as zeros.
    """
    used = np.flatnonzero(histogram.counts)
    first = max(used[0], used[-1] - 24 * BINS_PER_OCTAVE)
    edges = np.minimum(bin_edges(np.arange(first, used[-1] + 2)), histogram.absmax)
    width = np.diff(edges)
    weight = histogram.counts[first : used[-1] + 1] / histogram.counts.sum()
    step = np.atleast_1d(np.asarray(thresholds, np.float64))[:, None] / qmax
    code = np.minimum(np.round(edges / step), qmax)
    left = edges - code * step
    integral = code * (step * step * step / 12) + left * left * left / 3
    error = np.diff(integral) @ (weight / np.where(width > 0, width, np.inf))
    if width[-1] <= 0:  # the last bin holds the maximum and nothing else
        error += weight[-1] * left[:, -1] ** 2
    return np.asarray(error)


def _least_squares(histogram: Histogram, qmax: int) -> float:
    """Coarse geometric search down to 1/32 of the maximum, then a fine one around the best; the maximum is tried."""
    top = histogram.absmax
    coarse = top * np.exp2(-np.arange(0, 41) / 8)
    best = coarse[int(np.argmin(quantization_error(histogram, coarse, qmax)))]
    fine = np.unique(np.minimum(np.append(best * np.exp2(np.arange(-8, 9) / 64), top), top))[::-1]
    return float(fine[int(np.argmin(quantization_error(histogram, fine, qmax)))])  # among equals the larger


def _percentile(histogram: Histogram, percentile: float) -> float:
    if not 0 < percentile <= 100:
        raise ValueError(f"a percentile lies in (0, 100], not {percentile}")
    lower, upper, counts = histogram.bins()
    wanted = counts.sum() * (percentile / 100)
    total = np.cumsum(counts)
    index = min(int(np.searchsorted(total, wanted)), counts.size - 1)
    share = (wanted - (total[index] - counts[index])) / counts[index]
    return float(lower[index] + (upper[index] - lower[index]) * min(1.0, share))


def _entropy(histogram: Histogram, qmax: int) -> float:
    """Least KL(P || Q) over thresholds at the edges of 2048 even bins.

    P is the distribution with all mass beyond the threshold moved into the last bin; Q has the mass inside the
    threshold, averaged over the bins of each of the qmax + 1 levels that hold anything. Where Q is empty and P is not
    (outliers moved onto an empty bin), Q gets float32's epsilon, so the divergence stays finite.
    """
    edges = np.linspace(0.0, histogram.absmax, _ENTROPY_BINS + 1)
    even = np.diff(_cumulative(histogram, edges))
    even[0] = 0.0  # exact zeros and what rounds to zero say nothing about the range
    if even.sum() <= 0:
        return histogram.absmax
    levels = qmax + 1
    best, best_at = np.inf, _ENTROPY_BINS
    for last in range(_ENTROPY_BINS, levels - 1, -8):
        inside = even[:last]
        reference = inside.copy()
        reference[-1] += even[last:].sum()
        group = np.arange(last) * levels // last
        used = inside > 0
        mass = np.bincount(group, inside, levels)
        cells = np.maximum(np.bincount(group, used, levels), 1)
        quantized = np.where(used, (mass / cells)[group], 0.0)
        divergence = _divergence(reference, quantized)
        if divergence < best:
            best, best_at = divergence, last
    return float(edges[best_at])


def _divergence(p: Floats, q: Floats) -> float:
    if q.sum() <= 0:
        return float(np.inf)
    p, q = p / p.sum(), q / q.sum()
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / np.maximum(q[held], np.finfo(np.float32).eps))))


def _cumulative(histogram: Histogram, edges: Floats) -> Floats:
    """Number of elements below each edge, spread evenly within their bins."""
    lower, upper, counts = histogram.bins()
    positions = np.stack([lower, np.maximum(upper, np.nextafter(lower, np.inf))], 1).reshape(-1)
    total = np.cumsum(counts).astype(np.float64)
    values = np.stack([total - counts, total], 1).reshape(-1)
    return np.asarray(np.interp(edges, positions, values))
