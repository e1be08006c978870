"""The guard that compares float graphs, and what it takes for a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.equivalence import RELATIVE_BOUND, EquivalenceGuard, relative_difference
from tests.building import build
from tests.equivalence import random_feeds

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
    assert not relative_difference(one, other) <= 1e30


def test_few_integers_may_move() -> None:
    one = np.zeros(2000, np.int64)
    other = one.copy()
    other[:2] = 1
    assert relative_difference(one, other) == 0.0
    other[:3] = 1
    assert relative_difference(one, other) == float("inf")


def scaled(factor: float, outputs: str = "float[N, 4] y") -> Any:
    return build(f"m (float[N, 4] x) => ({outputs}) {{ y = Mul(x, f) }}", f=np.float32(factor))


def test_guard_accepts_rounding_and_remembers_the_worst() -> None:
    model = scaled(1.0)
    guard = EquivalenceGuard([random_feeds(model), random_feeds(model, seed=1)])
    assert guard(model, scaled(1.0)) == ""
    assert guard.worst == 0.0
    assert guard(model, scaled(1.0 + 0.5 * RELATIVE_BOUND)) == ""
    assert guard.worst == pytest.approx(0.5 * RELATIVE_BOUND, rel=0.01)


def test_guard_names_the_output_and_the_size_of_the_difference() -> None:
    model = scaled(1.0)
    guard = EquivalenceGuard([random_feeds(model)])
    assert guard(model, scaled(1.5)) == "output 'y' differs by 0.5 of its largest magnitude"


def test_guard_refuses_a_model_that_does_not_run() -> None:
    model = scaled(1.0)
    guard = EquivalenceGuard([random_feeds(model)])
    broken = scaled(1.0)
    broken.graph[0].op_type = "NoSuchOperator"
    assert "the rewritten model does not run" in guard(model, broken)
    shapes = build("m (float[N, 4] x) => (float[N, 5] y) { y = Reshape(x, s) }", s=np.array([-1, 5]))
    assert "the rewritten model does not run" in guard(model, shapes)  # 12 elements in rows of 5


def test_each_model_is_compared_with_its_own_outputs() -> None:
    guard = EquivalenceGuard([random_feeds(scaled(1.0))])
    for factor in (1.0, 2.0, 3.0, 4.0, 5.0):  # freed each time, so that addresses come back
        assert guard(scaled(factor), scaled(factor)) == ""
