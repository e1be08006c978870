"""Shift and scale of one site from what was seen of it: OS+, SmoothQuant, shift alone, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from qcompiler.graph import constant_array
from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.equalize.loss import SiteLoss
from qcompiler.passes.equalize.sample_rows import Rows
from qcompiler.passes.sites.records import Reals, Site

THRESHOLDS = tuple(2.0 ** (-step / 2) for step in range(1, 10))
"""Shares of the largest magnitude that OS+ tries, down to 1/20 of it (its absolute lower bound fits no small model)."""
ALPHAS = (0.35, 0.5, 0.65, 0.8)
PERCENTILE = 99.5
FLOOR = 1e-4
"""Smallest magnitude of a channel, as a share of the largest, that a scale is taken from."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was measured at one site.

    Attributes:
        losses: Method to its least loss.
        best: Method to the parameters that gave it, by channel of the source.
    """

    losses: dict[str, float] = field(default_factory=dict)
    best: dict[str, ShiftScale] = field(default_factory=dict)


def choose(site: Site, seen: Rows, methods: tuple[str, ...]) -> Choice:
    """The best parameters of each method at this site, by the error of its readers.

    shift: z is the centre of each channel, of its bounds or of its percentiles. os_plus: behind the better of these
    s_j = max(1, max|x_j| / t), the threshold t searched downwards (arXiv:2304.09145, section 4.2). smooth: without a
    shift s_j = max|x_j|^alpha / max|W_j|^(1 - alpha), alpha from a few (SmoothQuant, arXiv:2211.10438, equation 4).
    smooth_shift: the same behind the shift.
    """
    loss = SiteLoss(site, seen.rows)
    choice = Choice({"none": loss()}, {})

    def consider(method: str, made: ShiftScale) -> None:
        found = loss(_to_readers(site, made))
        if found < choice.losses.get(method, np.inf):
            choice.losses[method], choice.best[method] = found, made

    zero: Reals = np.zeros(site.sources)
    if site.shifts:
        for shift in _shifts(site, seen):
            consider("shift", ShiftScale(shift, np.ones(site.sources)))
    start = choice.best["shift"].shift if "shift" in choice.best else zero
    if "os_plus" in methods:
        for scale in _thresholds(site, seen, start):
            consider("os_plus", ShiftScale(start, scale))
    if "smooth" in methods:
        pairs = [(zero, "smooth"), (start, "smooth_shift")] if site.shifts else [(zero, "smooth")]
        for shift, method in pairs:
            for alpha in ALPHAS:
                consider(method, ShiftScale(shift, _smooth(site, seen, shift, alpha)))
    return choice


def _to_readers(site: Site, made: ShiftScale) -> ShiftScale:
    if site.to_source is None:
        return made
    return ShiftScale(made.shift[site.to_source], made.scale[site.to_source])


def _bounds(site: Site, seen: Rows) -> tuple[Reals, Reals]:
    """Bounds by channel of the source: of repeated heads, over all repeats."""
    return _reduced(site, seen.low, np.minimum, np.inf), _reduced(site, seen.high, np.maximum, -np.inf)


def _reduced(site: Site, array: Reals, pick: np.ufunc, start: float) -> Reals:
    """Several channels of the readers to one of the source, where heads are repeated."""
    if site.to_source is None:
        return array.astype(np.float64)
    result = np.full(site.sources, start)
    pick.at(result, site.to_source, array)
    return result


def _shifts(site: Site, seen: Rows) -> Iterator[Reals]:
    low, high = _bounds(site, seen)
    yield (low + high) / 2
    inner = [np.percentile(seen.rows, place, axis=0) for place in (100 - PERCENTILE, PERCENTILE)]
    yield (_reduced(site, inner[0], np.minimum, np.inf) + _reduced(site, inner[1], np.maximum, -np.inf)) / 2


def _magnitudes(site: Site, seen: Rows, shift: Reals) -> Reals:
    low, high = _bounds(site, seen)
    peaks = np.maximum(high - shift, shift - low)
    return np.asarray(np.maximum(peaks, FLOOR * float(peaks.max(initial=0.0)) or 1.0))


def _thresholds(site: Site, seen: Rows, shift: Reals) -> Iterator[Reals]:
    peaks = _magnitudes(site, seen, shift)
    for share in THRESHOLDS:
        yield np.maximum(1.0, peaks / (share * peaks.max()))


def _smooth(site: Site, seen: Rows, shift: Reals, alpha: float) -> Reals:
    peaks = _magnitudes(site, seen, shift)
    weights = np.zeros(site.channels)
    for reader in site.readers:
        array = constant_array(reader.weight.value)
        assert array is not None
        matrix = np.abs(array.reshape(array.shape[:2])).max(1 - reader.weight.axis)
        weights = np.maximum(weights, matrix)
    strongest = _reduced(site, weights, np.maximum, 0.0)
    scale = peaks**alpha / np.maximum(strongest, FLOOR * float(strongest.max()) or 1.0) ** (1 - alpha)
    return np.asarray(scale / np.exp(np.log(scale).mean()))
