"""Draws are nested bootstrap samples, and their histograms those of the drawn samples."""

from __future__ import annotations

import numpy as np

from qcompiler.analysis.draws import DrawHistograms, Draws, default_sizes
from qcompiler.calibration.observers import Histogram


def test_draws_have_their_sizes_and_the_smaller_lies_in_the_larger() -> None:
    times = Draws(20, (1, 8, 20), 5).times()
    assert times.sum(axis=2).tolist() == [[1] * 5, [8] * 5, [20] * 5]
    assert (np.diff(times, axis=0) >= 0).all()
    assert (times[-1] != 1).any(), "all samples once each would be no bootstrap"
    assert (times == Draws(20, (1, 8, 20), 5).times()).all()
    assert len({row.tobytes() for row in times[-1]}) == 5


def test_histograms_are_those_of_the_drawn_samples() -> None:
    random = np.random.default_rng(1)
    samples = [random.standard_normal(100).astype(np.float32) * 10.0**i for i in range(4)]
    times = np.array([[2, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    found = DrawHistograms(3)
    for index, sample in enumerate(samples):
        found.add(Histogram().observe(sample), times[:, index])
    first, second, empty = found.histograms()
    wanted = Histogram().observe(np.concatenate([samples[0], samples[0], samples[2]]))
    np.testing.assert_array_equal(np.trim_zeros(first.counts), np.trim_zeros(wanted.counts))
    assert first.range() == wanted.range()
    assert (first.absmax, second.absmax) == (wanted.absmax, np.abs(samples[3]).max())
    assert empty.count == 0


def test_default_sizes_follow_the_samples() -> None:
    assert default_sizes(500) == (1, 8, 32, 128)
    assert default_sizes(60) == (1, 8, 32, 60)
    assert default_sizes(35) == (1, 8, 32)
    assert default_sizes(12) == (1, 8, 12)
    assert default_sizes(1) == (1,)
