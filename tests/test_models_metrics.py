"""Scores against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics, renders


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("", "", 0), ("kitten", "sitting", 3), ("abc", "", 3), ("", "ab", 2), ("same", "same", 0)]
)
def test_edit_distance(a: str, b: str, distance: int) -> None:
    assert metrics.edit_distance(a, b) == distance


@given(st.text("abc", max_size=8), st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert metrics.edit_distance(a, b) == metrics.edit_distance(b, a)
    assert metrics.edit_distance(a, c) <= metrics.edit_distance(a, b) + metrics.edit_distance(b, c)
    assert (metrics.edit_distance(a, b) == 0) == (a == b)


def test_spearman_ranks_and_shares_ties() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.spearman(x, np.exp(x)) == pytest.approx(1.0)
    assert metrics.spearman(x, -x) == pytest.approx(-1.0)
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5
    assert metrics.spearman(np.array([1.0, 2.0, 2.0, 3.0]), x) == pytest.approx(4.5 / np.sqrt(4.5 * 5.0))


def test_cosine_and_pairs() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert metrics.cosine(rows, 3 * rows) == pytest.approx(1.0)
    assert metrics.cosine(rows[:1], rows[1:2]) == pytest.approx(0.0)
    assert metrics.pairwise_pearson(rows, 0.5 * rows) == pytest.approx(1.0)


def test_sqnr_is_in_decibels() -> None:
    reference = np.ones(100)
    assert metrics.sqnr(reference + 0.1, reference) == pytest.approx(20.0)
    assert metrics.sqnr(reference, reference) == float("inf")


def test_kl_divergence_ignores_a_shift_of_logits() -> None:
    logits = np.log(np.array([[0.5, 0.5], [0.25, 0.75]]))
    assert metrics.kl_divergence(logits + 7.0, logits) == pytest.approx(0.0, abs=1e-12)
    half = np.log(np.array([[0.5, 0.5]]))
    expected = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert metrics.kl_divergence(half, np.log(np.array([[0.25, 0.75]]))) == pytest.approx(expected)


def test_greedy_text_merges_repeats_and_drops_blanks() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 3]
    probabilities = np.eye(4)[path]
    assert renders.greedy_text(probabilities, ("a", "b", " ")) == "aab "
