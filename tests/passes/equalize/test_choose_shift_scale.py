"""Proposals at one site and the loss that they are compared by."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.graph import constant_array
from qcompiler.passes.equalize.choose_shift_scale import choose, proposals
from qcompiler.passes.equalize.decide import METHODS
from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.equalize.loss import SiteLoss
from qcompiler.passes.equalize.sample_rows import Rows
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind, Site
from qcompiler.precision import Precision, Precisions
from tests.architectures import WIDTH, bert, canonical, llama, vit

EIGHT = Precisions()


def site_of(kind: Kind, build: object = vit) -> Site:
    return next(site for site in find_sites(canonical(build(1))).sites if site.kind is kind)  # type: ignore[operator]


def rows_of(site: Site, seed: int = 0, *, outlier: float = 40.0, samples: int = 4) -> Rows:
    random, rows = np.random.default_rng(seed), Rows(site.channels)
    for _ in range(samples):
        seen = random.standard_normal((32, site.channels))
        seen[:, 3] = outlier + 5 * seen[:, 3]
        rows.add(seen.astype(np.float32), 16)
    return rows


def weights_of(site: Site) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    array = constant_array(site.readers[0].weight.value)
    assert array is not None
    return array.astype(np.float64) if site.readers[0].weight.axis == 0 else array.T.astype(np.float64)


def test_outlier_tune_is_per_channel_codes_with_scales_in_the_weights() -> None:
    site = site_of(Kind.NORM)
    seen = rows_of(site)
    made = choose(site, seen, seen.rows, METHODS["outlier_tune"], EIGHT).best["outlier_tune"]
    assert made.shift == pytest.approx(seen.centre)
    rows, weights = seen.rows.astype(np.float64), weights_of(site)
    peaks = np.maximum(seen.high - made.shift, made.shift - seen.low)
    assert made.scale == pytest.approx(peaks)
    by_channel = np.rint((rows - made.shift) / (peaks / 127))  # codes by channel, weights times the channel's scale
    folded = np.rint((rows - made.shift) / made.scale * 127)  # one scale, 1/127, behind the fold
    np.testing.assert_array_equal(by_channel, folded)
    np.testing.assert_allclose(
        by_channel @ (weights * peaks[:, None] / 127), folded @ (weights * made.scale[:, None]) / 127
    )


def test_the_shift_of_outlier_tune_is_divided_by_the_samples_there_are() -> None:
    site = site_of(Kind.NORM)
    few, many = (rows_of(site, samples=count) for count in (1, 8))
    assert few.centre[3] == pytest.approx(40, abs=3) and many.centre[3] == pytest.approx(40, abs=3)


def test_dead_channels_keep_a_scale() -> None:
    site = site_of(Kind.NORM)
    seen = rows_of(site)
    seen.rows[:, 5] = 0
    seen.low[5] = seen.high[5] = 0
    for _, made in proposals(site, seen, METHODS["auto"]):
        assert np.all(made.scale > 0) and np.all(np.isfinite(made.scale)) and np.all(np.isfinite(made.shift))


@pytest.mark.parametrize("build", [vit, bert, llama])
def test_proposals_come_in_the_same_order_for_any_rows(build: object) -> None:
    for site in find_sites(canonical(build(1))).sites:  # type: ignore[operator]
        first, second = (list(proposals(site, rows_of(site, seed), METHODS["auto"])) for seed in (0, 1))
        assert [name for name, _ in first] == [name for name, _ in second]
        choice = choose(site, rows_of(site), rows_of(site, 2).rows, METHODS["auto"], EIGHT)
        assert all(first[place][0] == name for name, place in choice.places.items())
        assert not any(made.shifts for _, made in first) or site.shifts


def test_thresholds_of_os_plus_are_relative() -> None:
    site = site_of(Kind.NORM)
    small, large = (
        [made.scale for name, made in proposals(site, rows, METHODS["os_plus"]) if name == "os_plus"]
        for rows in (_times(rows_of(site), 1e-3), rows_of(site))
    )
    np.testing.assert_allclose(small, large, rtol=1e-4)
    assert max(scale.max() for scale in large) == pytest.approx(20, rel=1e-6)  # down to 1/20 of the largest magnitude


def _times(rows: Rows, factor: float) -> Rows:
    made = Rows(rows.low.size)
    made.add(np.asarray(rows.rows * np.float32(factor)), len(rows.rows))
    made.low, made.high = rows.low * np.float32(factor), rows.high * np.float32(factor)
    return made


def test_an_error_that_all_rows_share_counts_more() -> None:
    """Far from zero, the rounding of weights is the same error in all rows; a shift by the mean takes it away."""
    site = site_of(Kind.NORM)
    random = np.random.default_rng(3)
    rows = (random.standard_normal((64, WIDTH)) * 0.1 + random.choice([-3.0, 3.0], WIDTH)).astype(np.float32)
    centred = SiteLoss(site, rows, EIGHT)(ShiftScale(rows.mean(0), np.ones(WIDTH)))
    as_it_is = SiteLoss(site, rows, EIGHT)()
    free = SiteLoss(
        site, rows, Precisions(Precision(weights=21))
    )  # weights without error: only the steps of activations differ
    assert as_it_is / centred > 4 * free() / free(ShiftScale(rows.mean(0), np.ones(WIDTH)))


def test_merged_rows_have_seen_both() -> None:
    site = site_of(Kind.NORM)
    one, other = rows_of(site, 0), rows_of(site, 1, outlier=60.0)
    both = one.merge(other)
    assert len(both.rows) == len(one.rows) + len(other.rows)
    np.testing.assert_array_equal(both.high, np.maximum(one.high, other.high))
    np.testing.assert_allclose(both.centre, (one.centre + other.centre) / 2)
