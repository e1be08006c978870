"""Scales by channel of what a LayerNorm gives, brought to one scale for the tensor: RepQ-ViT, and bounded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.equalize.sample_rows import Rows
from qcompiler.passes.sites.records import Kind, Reals, Site

BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, np.inf)
"""Largest factor by which a channel may depart from the scale of the layer; 1 leaves the shift alone, inf is RepQ."""
PERCENTILES = (0.999, 0.9999, 0.99999)
DEAD = 1e-5
"""Smallest range of a channel, as a share of the widest."""


def repq(site: Site, seen: Rows, qmax: int) -> Iterator[ShiftScale]:
    """RepQ-ViT (arXiv:2212.08254): r_c = delta_c / s~, the codes of a calibration by channel.

    At norms only, as there. Weights are symmetric here, and the range on the tensor is chosen like any other.
    """
    if site.kind is Kind.NORM:
        yield folded(*channel_ranges(site, seen, qmax), np.inf, site.shifts)


def bounded_folds(site: Site, seen: Rows, qmax: int) -> Iterator[ShiftScale]:
    """The same with r_c = clip(delta_c / s~, 1 / R, R), for each R of `BOUNDS`.

    What a full fold takes off the activations it puts on the weights, whose rows then differ in size: at few bits a
    bound in between is best. RMSNorm takes no shift, so that its ranges are symmetric.
    """
    if site.kind is Kind.NORM:
        ranges = channel_ranges(site, seen, qmax)
        for bound in BOUNDS:
            yield folded(*ranges, bound, site.shifts)


def folded(low: Reals, high: Reals, bound: float, shifts: bool = True) -> ShiftScale:
    """Shift to the middle of each channel's range, and its width over the median one, at most `bound` either way.

    The median minimises the mean absolute deviation from the channels' scales. With an infinite bound any other scale
    of the layer, s~, gives the same codes and the same weights up to a common factor, and so the same error; it only
    keeps the tensor at its ordinary size, which float16 needs. In RepQ the zero point of a channel is
    -low / delta and goes into the shift but for a common one, the mean; TensorRT takes none but 0 and weights here are
    symmetric, so that all of it goes into the shift.

    Args:
        low: Lower end of the range of each channel.
        high: Upper end.
    """
    if not shifts:
        high = np.maximum(np.abs(low), np.abs(high))
        low = -high
    widths = high - low
    widths = np.maximum(widths, DEAD * float(widths.max(initial=0.0)) or 1.0)
    ratios = widths / np.median(widths)
    return ShiftScale((low + high) / 2, np.clip(ratios, 1 / bound, bound))


def channel_ranges(site: Site, seen: Rows, qmax: int) -> tuple[Reals, Reals]:
    """Lower and upper end by channel, float64: of `PERCENTILES` and the bounds the ones with least squared error.

    Args:
        qmax: Largest code of the tensor; a range has 2 qmax steps.
    """
    rows = seen.rows.astype(np.float64)
    tried = [(seen.low.astype(np.float64), seen.high.astype(np.float64))]
    tried += [tuple(np.quantile(rows, (1 - share, share), axis=0)) for share in PERCENTILES]
    if not site.shifts:
        tried = [(-(top := np.maximum(np.abs(low), np.abs(high))), top) for low, high in tried]
    errors = np.stack([_squared_error(rows, low, high, qmax) for low, high in tried])
    best, channels = errors.argmin(0), np.arange(rows.shape[1])
    lows, highs = (np.stack(ends) for ends in zip(*tried, strict=True))
    return lows[best, channels], highs[best, channels]


def _squared_error(rows: Reals, low: Reals, high: Reals, qmax: int) -> Reals:
    """Mean over the rows, by channel."""
    step = np.maximum((high - low) / (2 * qmax), np.finfo(np.float64).tiny)
    middle = (low + high) / 2
    codes = np.clip(np.rint((rows - middle) / step), -qmax, qmax)
    return np.asarray(np.square(codes * step + middle - rows).mean(0))
