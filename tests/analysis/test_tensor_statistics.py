"""Statistics of one activation against numpy on the whole data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.analysis.layout import Layout
from qcompiler.analysis.tensor_statistics import TensorStatistics, TensorSummary
from qcompiler.calibration.observers import Histogram

Array = np.ndarray[Any, Any]


def summary(sequences: list[Array], layout: Layout) -> TensorSummary:
    statistics = TensorStatistics("t", layout)
    for sequence in sequences:
        statistics.observe(sequence, Histogram().observe(sequence))
    return statistics.summary(127)


def sequences(count: int = 5, channels: int = 16) -> list[Array]:
    random = np.random.default_rng(3)
    return [random.standard_normal((1, 20 + i, channels)).astype(np.float32) + 0.3 for i in range(count)]


def test_extremes_and_channels_are_those_of_all_sequences() -> None:
    given = sequences()
    found = summary(given, Layout(2, 1))
    rows = np.concatenate([item.reshape(-1, 16) for item in given])
    assert (found.low, found.high) == (rows.min(), rows.max())
    assert found.elements == rows.size
    assert found.channels is not None
    np.testing.assert_array_equal(found.channels.absmax, np.abs(rows).max(0))
    assert found.ratio == pytest.approx(np.abs(rows).max() / np.median(np.abs(rows).max(0)))
    assert found.p9999 == pytest.approx(np.quantile(np.abs(rows), 0.9999), rel=0.03)


def test_kurtosis_and_norm_are_means_over_sequences_of_the_published_definition() -> None:
    given = [item**3 for item in sequences()]
    found = summary(given, Layout(2, 1))
    flat = [item.reshape(-1).astype(np.float64) for item in given]
    wanted = [np.mean((x - x.mean()) ** 4) / (x.std(ddof=1) ** 4 + 1e-6) for x in flat]
    assert found.kurtosis == pytest.approx(np.mean(wanted), rel=1e-6)
    assert found.inf_norm == pytest.approx(np.mean([np.abs(x).max() for x in flat]))
    assert wanted[0] != pytest.approx(np.mean(wanted), rel=0.01), "the mean must matter for this test to say anything"


def test_outlier_channels_come_largest_first() -> None:
    given = sequences()
    for item in given:
        item[..., 3] *= 20
        item[..., 11] *= 50
    found = summary(given, Layout(2, 1))
    assert found.channels is not None
    assert found.channels.outliers == [11, 3]
    assert found.lost_db is not None
    assert found.lost_db > 6
    ordinary = summary(sequences(), Layout(2, 1))
    assert ordinary.channels is not None
    assert not ordinary.channels.outliers
    assert ordinary.lost_db is not None
    assert ordinary.lost_db < 3


def test_outlier_tokens_and_the_first_token() -> None:
    given = sequences(4)
    for item in given:
        item[0, 0] *= 1000
    found = summary(given, Layout(2, 1))
    tokens = sum(item.shape[1] for item in given)
    assert found.token_share == pytest.approx(4 / tokens)
    assert found.absmax_first == pytest.approx(max(np.abs(item[0, 0]).max() for item in given))
    assert found.absmax_rest == pytest.approx(max(np.abs(item[0, 1:]).max() for item in given))


def test_without_channels_there_is_no_channel_figure() -> None:
    found = summary(sequences(), Layout(None, None))
    figures = [found.channels, found.ratio, found.token_share, found.absmax_first, found.lost_db]
    assert figures == [None] * 5


def test_a_channel_axis_whose_size_changes_is_given_up() -> None:
    random = np.random.default_rng(0)
    given = [random.standard_normal((1, 5, size)).astype(np.float32) for size in (4, 7)]
    found = summary(given, Layout(2, 1))
    assert found.channels is None
    assert found.high == max(item.max() for item in given)
    assert found.absmax_first is not None


def test_constants_and_zeros_do_not_divide_by_zero() -> None:
    found = summary([np.zeros((1, 3, 4), np.float32)], Layout(2, 1))
    assert (found.kurtosis, found.lost_db, found.ratio) == (0, 0, None)
