"""Intervals against answers known without resampling."""

from __future__ import annotations

import numpy as np
import pytest

from models import bootstrap
from models.metrics import spearman


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 900)
    found = bootstrap.interval(bootstrap.mean(values))
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean()) and found.items == 900
    assert found.low == pytest.approx(found.value - error, abs=0.12 * error)
    assert found.high == pytest.approx(found.value + error, abs=0.12 * error)


def test_the_interval_of_a_proportion() -> None:
    found = bootstrap.interval(bootstrap.mean(np.arange(400) % 10 == 0))
    error = 1.96 * np.sqrt(0.1 * 0.9 / 400)
    assert found.value == pytest.approx(0.1)
    assert found.high - found.low == pytest.approx(2 * error, rel=0.12)


def test_ratios_are_resampled_as_sums() -> None:
    """Long items weigh more: the mean of the items' own rates would be 0.5."""
    edits, lengths = np.array([100.0, 0.0]), np.array([100.0, 900.0])
    measure = bootstrap.ratio(edits, lengths)
    assert measure.point() == pytest.approx(0.1)
    found = bootstrap.interval(measure)
    assert (found.low, found.high) == (0.0, 1.0), "a draw may hold one item twice"


def test_perplexity_is_the_exponential_of_the_mean_over_tokens() -> None:
    measure = bootstrap.perplexity(np.array([np.log(2.0) * 10, np.log(8.0) * 30]), np.array([10, 30]))
    assert measure.point() == pytest.approx(2.0 ** ((10 + 90) / 40))


def test_pairs_stay_together_and_seeds_fix_the_draws() -> None:
    a = np.arange(50.0)
    assert bootstrap.interval(bootstrap.correlation(a, a**3, spearman)).low == pytest.approx(1.0)
    noisy = bootstrap.correlation(a, a + np.random.default_rng(0).normal(0, 20, 50), spearman)
    first, again = bootstrap.interval(noisy), bootstrap.interval(noisy)
    assert first == again and first.low < first.value < first.high
    assert bootstrap.interval(noisy, seed=1) != first
