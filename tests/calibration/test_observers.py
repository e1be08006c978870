"""Observers: exact, mergeable in any order, refusing what is not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.calibration.observers import BINS_PER_OCTAVE, ChannelRanges, Histogram, MinMax, bin_edges
from qcompiler.errors import CalibrationError

floats = hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(-(2.0**100), 2.0**100, width=32))


def _same(a: Histogram, b: Histogram) -> bool:
    return np.array_equal(np.trim_zeros(a.counts, "b"), np.trim_zeros(b.counts, "b")) and (a.low, a.high) == (
        b.low,
        b.high,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(floats, min_size=1, max_size=5), st.randoms())
def test_merging_parts_in_any_order_equals_observing_all(parts: list[Any], random: Any) -> None:
    whole = Histogram().observe(np.concatenate(parts))
    pieces = [Histogram().observe(part) for part in parts]
    random.shuffle(pieces)
    while len(pieces) > 1:
        first = pieces.pop(random.randrange(len(pieces)))
        index = random.randrange(len(pieces))
        pieces[index] = first.merge(pieces[index])
    assert _same(whole, pieces[0])
    assert whole.count == sum(part.size for part in parts)
    one_by_one = Histogram()
    for part in parts:
        one_by_one = one_by_one.observe(part)
    assert _same(whole, one_by_one)


@settings(max_examples=60, deadline=None)
@given(floats.filter(lambda array: array.size > 0))
def test_bounds_are_exact_and_bins_hold_their_elements(array: Any) -> None:
    histogram = Histogram().observe(array)
    assert histogram.range() == (float(array.min()), float(array.max()))
    assert histogram.absmax == float(np.abs(array).max())
    lower, upper, counts = histogram.bins()
    assert upper.max() == histogram.absmax
    for value in np.abs(array).astype(np.float64):
        assert np.any((lower <= value) & (value <= upper))
    assert counts.sum() == array.size
    normal = lower >= np.finfo(np.float32).tiny
    assert np.all((upper - lower)[normal] <= lower[normal] / BINS_PER_OCTAVE * (1 + 1e-12))


def test_observing_leaves_the_observer_as_it_was() -> None:
    first = Histogram().observe(np.array([1.0, 2.0], np.float32))
    before = first.counts.copy()
    first.observe(np.array([5.0, 1.0], np.float32))
    first.merge(first)
    assert np.array_equal(first.counts, before)
    assert first.range() == (1.0, 2.0)


def test_chunks_and_strides_do_not_matter() -> None:
    array = np.random.default_rng(0).standard_normal((3, 1 << 17)).astype(np.float32)
    assert _same(Histogram().observe(array.T), Histogram().observe(array))
    assert _same(Histogram().observe(array[:, ::2]), Histogram().observe(array[:, ::2].copy()))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_are_rounded_to_float32(dtype: Any) -> None:
    array = np.random.default_rng(0).standard_normal(999).astype(dtype)
    assert _same(Histogram().observe(array), Histogram().observe(array.astype(np.float32)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_is_refused(bad: float) -> None:
    array = np.array([1.0, bad, 2.0], np.float32)
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        Histogram().observe(array)
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        MinMax().observe(array)


def test_a_double_beyond_float32_is_refused() -> None:
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        Histogram().observe(np.array([1e300]))


def test_mean_square_is_close() -> None:
    array = np.random.default_rng(1).standard_normal(100_000).astype(np.float32)
    exact = float(np.mean(array.astype(np.float64) ** 2))
    assert Histogram().observe(array).mean_square == pytest.approx(exact, rel=1e-4)
    assert Histogram().mean_square == 0.0


def test_empty_and_minmax() -> None:
    assert Histogram().observe(np.zeros(0, np.float32)).range() == (0.0, 0.0)
    assert MinMax().range() == (0.0, 0.0)
    assert MinMax().observe(np.zeros(0, np.float32)).count == 0
    both = MinMax().observe(np.array([1.0, 3.0])).merge(MinMax().observe(np.array([-2.0])))
    assert (both.range(), both.count) == ((-2.0, 3.0), 3)


def test_bin_edges_are_the_smallest_numbers_of_their_bins() -> None:
    assert bin_edges(np.array([127 * BINS_PER_OCTAVE]))[0] == 1.0
    assert bin_edges(np.array([127 * BINS_PER_OCTAVE + 1]))[0] == 1.0 + 1 / BINS_PER_OCTAVE


def test_the_smallest_elements_are_whole_bins_of_the_histogram() -> None:
    values = np.concatenate([np.linspace(-1, 1, 990), np.full(10, 500.0)]).astype(np.float32)
    part = Histogram().observe(values).smallest(0.99)
    assert part.count == 990
    assert 1.0 <= part.absmax < 1.01
    assert part.mean_square == pytest.approx(np.mean(np.square(values[:990])), rel=0.01)
    assert Histogram().observe(values).smallest(1.0).absmax == 500.0


def test_channel_ranges_include_zero_and_merge_to_the_wider() -> None:
    first = ChannelRanges(-1).observe(np.array([[1, -2, 3], [4, -1, 5]], np.float32))
    assert (first.low.tolist(), first.high.tolist()) == ([0, -2, 0], [4, 0, 5])
    both = first.merge(ChannelRanges(-1).observe(np.array([[[-7, 1, 0]]], np.float32)))
    assert (both.low.tolist(), both.high.tolist()) == ([-7, -2, 0], [4, 1, 5])
    assert both.peaks.tolist() == [7, 2, 5]
    assert first.merge(ChannelRanges(-1)).peaks.tolist() == ChannelRanges(-1).merge(first).peaks.tolist() == [4, 2, 5]
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        first.observe(np.array([[1, np.nan, 3]], np.float32))
