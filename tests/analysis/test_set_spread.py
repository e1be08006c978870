"""S = between / max(within, floor)."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.analysis.set_spread import Floats, evaluation_noise, kendall_tau, set_spread


def metric(sets: list[float], seeds: list[float], samples: list[float]) -> Floats:
    """m = sum of the three."""
    parts = np.array(sets)[:, None, None], np.array(seeds)[None, :, None], np.array(samples)[None, None, :]
    return np.asarray(parts[0] + parts[1] + parts[2], np.float64)


def test_spreads_are_those_of_the_protocol() -> None:
    found = set_spread(metric([20, 23, 21], [0, 0.5, -0.5], [3.0, -3.0]))
    assert (found.between, found.within, found.total) == (3, 1, 4)
    assert found.ratio == 3
    assert found.matters
    assert not set_spread(metric([20, 21.9], [0, 1], [0.0, 0.0])).matters


def test_hard_and_easy_samples_are_no_noise_but_disagreement_is() -> None:
    same = metric([20, 21], [0.0, 0.1], [30.0, -30.0, 5.0])
    assert evaluation_noise(same) == pytest.approx(0, abs=1e-9)
    mixed = same.copy()
    mixed[0, :, 0] += 8
    assert evaluation_noise(mixed) > 1
    assert set_spread(mixed).floor == evaluation_noise(mixed)


def test_equal_sets_give_exactly_zero() -> None:
    same = np.repeat(metric([20], [0, 0, 0], [1.0, 2.0, 4.0]), 3, axis=0)
    assert set_spread(same).ratio == 0
    assert not set_spread(same).matters


def test_without_any_noise_the_smallest_difference_counts() -> None:
    assert set_spread(metric([20, 20.5], [0, 0], [0.0])).ratio == np.inf


def test_kendall_tau() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([1, 2, 3], [2, 1, 3]) == pytest.approx(1 / 3)
    assert kendall_tau([1], [1]) is None
