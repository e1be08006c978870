"""RepQ's fold is the calibration by channel whatever the layer's scale; a bound helps at few bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler.passes.equalize.choose_shift_scale import choose
from qcompiler.passes.equalize.fold_norm_scales import BOUNDS, bounded_folds, channel_ranges, folded, repq
from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.equalize.loss import SiteLoss
from qcompiler.passes.equalize.sample_rows import Rows
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind, Site
from qcompiler.precision import Precision, Precisions
from tests.architectures import canonical, llama, vit
from tests.building import build

FOUR, EIGHT = Precisions(Precision(4, 4)), Precisions()
CHANNELS = 256
Array = npt.NDArray[np.float32]


def norm_site(channels: int = CHANNELS) -> Site:
    """A LayerNorm and one layer of `channels` inputs and 64 outputs."""
    random = np.random.default_rng(1)
    weights = random.standard_normal((channels, 64)) / np.sqrt(channels)
    model = build(
        f"""m (float[N, 8, {channels}] x) => (float[N, 8, 64] y) {{
            n = LayerNormalization<axis = -1>(x, g, c) y = MatMul(n, w) }}""",
        17, g=np.ones(channels, np.float32), c=np.zeros(channels, np.float32), w=weights.astype(np.float32),
    )  # fmt: skip
    (site,) = find_sites(canonical(model)).sites
    return site


def planted(seed: int) -> Rows:
    """Gaussian channels with offsets, 4 of them 20 times larger."""
    random, sizes = np.random.default_rng(seed), np.ones(CHANNELS)
    sizes[[7, 50, 99, 200]] = 20.0
    offsets = np.random.default_rng(9).standard_normal(CHANNELS) * 0.5
    rows = Rows(CHANNELS)
    for _ in range(4):
        rows.add(((random.standard_normal((128, CHANNELS)) + offsets) * sizes).astype(np.float32), 128)
    return rows


@pytest.mark.parametrize("precisions", [FOUR, EIGHT])
def test_the_full_fold_does_not_depend_on_the_scale_of_the_layer(precisions: Precisions) -> None:
    """The choice of a mean, a median or any number is void: codes stay, weights change by a common factor."""
    site, seen = norm_site(), planted(0)
    made = folded(*channel_ranges(site, seen, 7), np.inf)
    loss = SiteLoss(site, seen.rows, precisions)
    wanted = loss(made)
    for layer in (made.scale.mean(), 1 / made.scale.max(), 100.0, 0.01):
        assert loss(ShiftScale(made.shift, made.scale * layer)) == pytest.approx(wanted, rel=1e-3)
    bounded = folded(*channel_ranges(site, seen, 7), 8.0)
    assert loss(bounded) != pytest.approx(wanted, rel=1e-2)  # that is what the loss can see


def test_codes_of_the_full_fold_are_those_by_channel() -> None:
    site, seen = norm_site(), planted(0)
    low, high = channel_ranges(site, seen, 7)
    made = folded(low, high, np.inf)
    assert np.median(made.scale) == pytest.approx(1)
    rows, step = seen.rows.astype(np.float64), float(np.median(high - low)) / 14
    by_channel = np.rint((rows - (low + high) / 2) / ((high - low) / 14))
    np.testing.assert_array_equal(np.rint((rows - made.shift) / made.scale / step), by_channel)


def test_a_bound_in_between_is_best_for_planted_outliers_at_4_bits() -> None:
    site, seen = norm_site(), planted(0)
    loss = SiteLoss(site, planted(1).rows, FOUR)
    by_bound = {bound: loss(made) for bound, made in zip(BOUNDS, bounded_folds(site, seen, 7), strict=True)}
    (full,) = repq(site, seen, 7)
    assert by_bound[np.inf] == loss(full)
    assert min(by_bound[4.0], by_bound[8.0]) < 0.9 * by_bound[np.inf] < 0.9 * by_bound[1.0] < loss()
    chosen = choose(site, seen, planted(1).rows, ("repq", "bounded_fold"), FOUR)
    assert chosen.losses["bounded_fold"] == min(by_bound.values()) < chosen.losses["repq"]


def test_a_bound_of_one_is_a_shift_alone() -> None:
    made = next(iter(bounded_folds(norm_site(), planted(0), 7)))
    assert made.shifts and not made.scales


def test_only_norms_are_folded_and_those_without_a_shift_symmetrically() -> None:
    for model in (vit(1), llama(1)):
        for site in find_sites(canonical(model)).sites:
            rows = Rows(site.channels)
            rows.add(np.random.default_rng(0).standard_normal((64, site.channels)).astype(np.float32) + 1, 64)
            found = [*repq(site, rows, 127), *bounded_folds(site, rows, 127)]
            assert len(found) == (1 + len(BOUNDS) if site.kind is Kind.NORM else 0)
            assert all(site.shifts or not made.shifts for made in found)


def test_a_range_leaves_out_what_one_row_alone_has_where_that_is_less_error() -> None:
    random = np.random.default_rng(0)
    rows: Array = random.standard_normal((4096, 3)).astype(np.float32)
    rows[17, 1] = 12.0
    seen = Rows(3)
    seen.add(rows, 4096)
    low, high = channel_ranges(norm_site(3), seen, 7)
    assert high[1] < 6 and low[1] < -2
    low, high = channel_ranges(norm_site(3), seen, 32767)  # fine steps: what is cut off is all that counts
    assert high[1] == 12


def test_dead_channels_keep_a_scale() -> None:
    seen = planted(0)
    seen.rows[:, 5] = 0.25
    seen.low[5] = seen.high[5] = 0.25
    for made in bounded_folds(norm_site(), seen, 7):
        assert np.all(made.scale > 0) and np.isfinite(made.scale).all() and np.isfinite(made.shift).all()
        assert made.shift[5] == pytest.approx(0.25)
