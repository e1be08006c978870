"""What it takes for a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.certification.difference import relative_difference

Array = np.ndarray[Any, Any]
INF, NAN = np.float32("inf"), np.float32("nan")


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, -4.0], [1.5, -4.0], 0.125),
        ([NAN, INF, 1.0], [NAN, INF, 1.0], 0.0),
        ([NAN, INF, 1.0], [NAN, INF, 0.5], 0.5),
        ([0.0, 0.0], [0.0, 0.25], 0.25),
        ([], [], 0.0),
    ],
)
def test_difference_is_relative_to_the_largest_magnitude(
    one: list[float], other: list[float], difference: float
) -> None:
    assert relative_difference(np.array(one, np.float32), np.array(other, np.float32)) == difference


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1.0, INF]), np.array([1.0, 2.0])),
        (np.array([1.0, 2.0]), np.array([1.0, NAN])),
        (np.array([INF, 2.0]), np.array([-INF, 2.0])),
        (np.zeros(2), np.zeros(3)),
        (np.zeros(2, np.float32), np.zeros(2, np.float16)),
        (np.zeros((2, 1)), np.zeros((1, 2))),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([True]), np.array([False])),
    ],
)
def test_what_can_never_pass(one: Array, other: Array) -> None:
    assert relative_difference(one, other) == float("inf")


def test_few_integers_may_move() -> None:
    one = np.zeros(2000, np.int64)
    other = one.copy()
    other[:2] = 1
    assert relative_difference(one, other) == 0.0
    other[:3] = 1
    assert relative_difference(one, other) == float("inf")
