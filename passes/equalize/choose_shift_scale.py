"""Shift and scale of one site from what was seen of it, by each of the methods, or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompiler.passes.equalize.fold_norm_scales import bounded_folds, repq
from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.equalize.joint_loss import JointLoss
from qcompiler.passes.equalize.loss import SiteLoss, largest_codes
from qcompiler.passes.equalize.sample_rows import Rows
from qcompiler.passes.sites.records import Reals, Site
from qcompiler.precision import ALL_8_BITS, Precisions

LOWEST, STEPS = 0.05, 6
"""OS+ lowers the threshold to this share of the largest magnitude, in equal ratios. An absolute bound (1 in the
released code) fits no small model."""
ALPHAS = (0.4, 0.6, 0.8)
FLOOR = 1e-4
"""Smallest magnitude of a channel, as a share of the largest, that a scale is taken from."""
DEAD = 1e-5
"""The same of OutlierTune."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was measured at one site.

    Attributes:
        losses: Method to its least loss.
        best: Method to the parameters that gave it, by channel of the source.
        places: Method to the place of these among the `proposals`.
        every: The loss of each proposal, by place.
        joint: Whether the losses are those at the readers' joint end.
    """

    losses: dict[str, float] = field(default_factory=dict)
    best: dict[str, ShiftScale] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    every: dict[int, float] = field(default_factory=dict)
    joint: bool = False

    def enter(self, place: int, method: str, made: ShiftScale, loss: float) -> None:
        """Take what was measured of one proposal."""
        self.every[place] = loss
        if loss < self.losses.get(method, np.inf):
            self.losses[method], self.best[method], self.places[method] = loss, made, place


def choose(
    site: Site, seen: Rows, rows: Reals, methods: Sequence[str], precisions: Precisions, zero_point: bool = False
) -> Choice:
    """The best parameters of each method at this site, made from `seen`, by the error of its readers on `rows`.

    Args:
        zero_point: Whether the tensor may have one.
    """
    loss = SiteLoss(site, rows, precisions, zero_point)
    choice = Choice({"none": loss()})
    for place, (method, made) in enumerate(proposals(site, seen, methods, precisions)):
        choice.enter(place, method, made, loss(_to_readers(site, made)))
    return choice


def choose_jointly(
    site: Site, seen: Rows, single: Choice, methods: Sequence[str], precisions: Precisions, loss: JointLoss
) -> Choice:
    """The same by the joint loss, of the best by single layers (`choose`) as many as it has room for."""
    choice = Choice({"none": loss()}, joint=True)
    tried = list(proposals(site, seen, methods, precisions))
    for place in shortlist([method for method, _ in tried], single.every, loss.candidates):
        method, made = tried[place]
        made = single.best[method] if place == single.places[method] else made
        choice.enter(place, method, made, loss(_to_readers(site, made)))
    return choice


def shortlist(methods: Sequence[str], losses: Mapping[int, float], count: int) -> list[int]:
    """Places of proposals: in turns the best that is left of each method, one of each at least, up to `count`."""
    turns, taken = Counter[str](), []
    for place in sorted(losses, key=losses.__getitem__):
        taken.append((turns[methods[place]], losses[place], place))
        turns[methods[place]] += 1
    return sorted(place for _, _, place in sorted(taken)[: max(count, len(turns))])


def proposals(
    site: Site, seen: Rows, methods: Sequence[str], precisions: Precisions = ALL_8_BITS
) -> Iterator[tuple[str, ShiftScale]]:
    """What is tried, in the same order for any rows.

    shift: z is the centre of each channel, of its bounds or of its percentiles, or its mean, which leaves no error of
    rounded weights that all rows have in common. os_plus: behind each of these s_j = max(1, max|x_j| / t), the
    threshold t searched downwards (arXiv:2304.09145, section 4.2). smooth: without a shift
    s_j = max|x_j|^alpha / max|W_j|^(1 - alpha), alpha from a few (SmoothQuant, arXiv:2211.10438, equation 4);
    between convolutions that is cross-layer equalization (Nagel et al., arXiv:1906.04721, section 4.1) by the ranges of
    activations in place of the first layer's weights.
    smooth_shift: the same behind each shift. outlier_tune: see `_full_fold`. repq, bounded_fold: see
    `fold_norm_scales`.
    """
    zero: Reals = np.zeros(site.sources)
    if "smooth" in methods:
        for alpha in ALPHAS:
            yield "smooth", ShiftScale(zero, _smooth(site, seen, zero, alpha))
    for shift in _shifts(site, seen) if site.shifts else [zero]:
        if "shift" in methods and site.shifts:
            yield "shift", ShiftScale(shift, np.ones(site.sources))
        if "os_plus" in methods:
            for scale in _thresholds(site, seen, shift):
                yield "os_plus", ShiftScale(shift, scale)
        if "smooth_shift" in methods and site.shifts:
            for alpha in ALPHAS:
                yield "smooth_shift", ShiftScale(shift, _smooth(site, seen, shift, alpha))
    if "outlier_tune" in methods:
        yield "outlier_tune", _full_fold(site, seen)
    for method, make in (("repq", repq), ("bounded_fold", bounded_folds)):
        if method in methods:
            for made in make(site, seen, largest_codes(site, precisions)[0]):
                yield method, made


def _full_fold(site: Site, seen: Rows) -> ShiftScale:
    """OutlierTune (arXiv:2406.18832): symmetrization, then pre-executed dequantization.

    z is the centre of each channel's bounds, averaged over samples (divided by their number, where the released code
    divides by 512 whatever it is); s is the largest magnitude of each shifted channel, at least 1e-5 of the largest of
    all. Exact: codes round(x_j qmax / s_j) are those of activation scales by channel, folded into the weights before
    these are quantized, with one scale 1 / qmax left on the tensor. Not as in the paper: weights are symmetric, other
    activations static per tensor, and the range on the tensor is chosen like any other (clipping rules), not fixed.
    """
    shift: Reals = _reduced(site, seen.centre, np.add, 0.0) if site.shifts else np.zeros(site.sources)
    if site.to_source is not None:
        shift = shift / np.bincount(site.to_source, minlength=site.sources)
    return ShiftScale(shift, _magnitudes(site, seen, shift, DEAD))


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
    inner = seen.inner
    yield (_reduced(site, inner[0], np.minimum, np.inf) + _reduced(site, inner[1], np.maximum, -np.inf)) / 2
    mean = _reduced(site, seen.rows.mean(0), np.add, 0.0)
    yield mean if site.to_source is None else mean / np.bincount(site.to_source, minlength=site.sources)


def _magnitudes(site: Site, seen: Rows, shift: Reals, floor: float = FLOOR) -> Reals:
    low, high = _bounds(site, seen)
    peaks = np.maximum(high - shift, shift - low)
    return np.asarray(np.maximum(peaks, floor * float(peaks.max(initial=0.0)) or 1.0))


def _thresholds(site: Site, seen: Rows, shift: Reals) -> Iterator[Reals]:
    peaks = _magnitudes(site, seen, shift)
    for step in range(1, STEPS + 1):
        yield np.maximum(1.0, peaks / (LOWEST ** (step / STEPS) * peaks.max()))


def _smooth(site: Site, seen: Rows, shift: Reals, alpha: float) -> Reals:
    peaks = _magnitudes(site, seen, shift)
    weights = np.zeros(site.channels)
    for reader in site.readers:
        weights = np.maximum(weights, np.abs(reader.matrix()).max(1))
    strongest = _reduced(site, weights, np.maximum, 0.0)
    scale = peaks**alpha / np.maximum(strongest, FLOOR * float(strongest.max()) or 1.0) ** (1 - alpha)
    return np.asarray(scale / np.exp(np.log(scale).mean()))
