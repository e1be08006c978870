"""Thresholds: optimal on what they optimise, defined on every input."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.thresholds import FLOOR, Method, _power, find_threshold, quantization_error, threshold

METHODS: tuple[Method, ...] = get_args(Method)


def _error(array: Any, limit: float, qmax: int = 127) -> float:
    step = limit / qmax
    rounded = np.clip(np.round(array.astype(np.float64) / step), -qmax, qmax) * step
    return float(np.mean((array - rounded) ** 2))


def _heavy_tailed(size: int = 50_000) -> Any:
    return np.random.default_rng(3).standard_t(2.5, size).astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32)), st.sampled_from(METHODS))
def test_every_method_is_positive_finite_and_at_most_the_maximum(array: Any, method: Method) -> None:
    histogram = Histogram().observe(array)
    found = find_threshold(histogram, method)
    assert np.isfinite(found.value)
    assert found.value > 0
    assert 0 <= found.clipped <= 1
    if found.dead:
        assert histogram.absmax <= FLOOR
    else:
        assert found.value <= histogram.absmax


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-100, 100, width=32)))
def test_mse_is_never_worse_than_minmax_on_the_histogram(array: Any) -> None:
    histogram = Histogram().observe(array)
    if histogram.absmax <= FLOOR:
        return
    chosen, top = quantization_error(histogram, [threshold(histogram, "mse"), histogram.absmax])
    assert chosen <= top * (1 + 1e-9) + 1e-300


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 100), elements=st.floats(-1e4, 1e4, width=32)), st.sampled_from(METHODS))
def test_rounding_inside_the_threshold_errs_by_at_most_half_a_step(array: Any, method: Method) -> None:
    limit = threshold(Histogram().observe(array), method)
    step = limit / 127
    inside = array[np.abs(array) <= limit].astype(np.float64)
    rounded = np.clip(np.round(inside / step), -127, 127) * step
    assert np.all(np.abs(inside - rounded) <= step / 2 * (1 + 1e-9))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2, 0.08])
@pytest.mark.parametrize("qmax", [127, 7])
def test_error_on_the_histogram_is_the_error_on_the_data(share: float, qmax: int) -> None:
    array = _heavy_tailed()
    histogram = Histogram().observe(array)
    limit = histogram.absmax * share
    assert quantization_error(histogram, limit, qmax)[0] == pytest.approx(_error(array, limit, qmax), rel=0.02)


def test_mse_finds_the_best_threshold_of_the_data() -> None:
    array = _heavy_tailed()
    histogram = Histogram().observe(array)
    grid = histogram.absmax * np.exp2(-np.arange(0, 400) / 80)
    best = min(_error(array, limit) for limit in grid)
    assert _error(array, threshold(histogram, "mse")) <= best * 1.02
    assert _error(array, threshold(histogram, "mse")) < 0.85 * _error(array, histogram.absmax)


def test_mse_of_constant_magnitude_is_the_maximum() -> None:
    assert threshold(Histogram().observe(np.full(100, -0.7, np.float32)), "mse") == np.float32(0.7)


def test_percentile_agrees_with_numpy_within_a_bin() -> None:
    array = _heavy_tailed()
    histogram = Histogram().observe(array)
    for percentile in (50.0, 99.0, 99.9):
        expected = float(np.percentile(np.abs(array), percentile))
        assert threshold(histogram, "percentile", percentile=percentile) == pytest.approx(expected, rel=2 / 128)
    assert threshold(histogram, "percentile", percentile=100) == histogram.absmax


def test_percentile_of_almost_only_zeros_keeps_the_rest() -> None:
    array = np.zeros(1_000_000, np.float32)
    array[0] = 3.0
    assert threshold(Histogram().observe(array), "percentile") == 3.0


def test_clipped_share_counts_the_elements_above() -> None:
    array = _heavy_tailed()
    found = find_threshold(Histogram().observe(array), "percentile", percentile=99)
    assert found.clipped == pytest.approx(0.01, rel=0.05)
    assert find_threshold(Histogram().observe(array), "minmax").clipped == 0.0


def test_entropy_cuts_outliers_and_keeps_an_even_distribution() -> None:
    random = np.random.default_rng(0)
    bell = random.standard_normal(200_000).astype(np.float32)
    bell[:3] = 60.0
    assert threshold(Histogram().observe(bell), "entropy") < 15
    even = random.uniform(-1, 1, 200_000).astype(np.float32)
    assert threshold(Histogram().observe(even), "entropy") > 0.95


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("array", [np.zeros(0), np.zeros(9), np.full(3, 1e-42), np.full(3, -1e-12)], ids=str)
def test_dead_tensors_are_flagged(array: Any, method: Method) -> None:
    found = find_threshold(Histogram().observe(array.astype(np.float32)), method)
    assert found.dead
    assert found.value == 1.0


def test_unknown_methods_and_percentiles_are_refused() -> None:
    histogram = Histogram().observe(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="unknown calibration method"):
        threshold(histogram, "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="percentile"):
        threshold(histogram, "percentile", percentile=0)


@pytest.mark.parametrize("power", [1.0, 1.25, 1.5, 1.75, 2.5, 3.0, 1.3])
def test_powers_without_pow_are_the_same(power: float) -> None:
    error = np.abs(np.random.default_rng(0).standard_normal(1000))
    np.testing.assert_allclose(_power(error, power), error**power, rtol=1e-13)
