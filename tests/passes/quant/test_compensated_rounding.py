"""Compensated rounding: the equations step by step, less error at the output, pairs within their bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.numerics import PAIR_LIMIT, pairs_fit
from qcompiler.passes.quant.compensated_rounding import DAMPING, compensated_codes

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(3)
ROWS, INPUTS, OUTPUTS = 2000, 160, 24
MIX = RANDOM.standard_normal((12, INPUTS))
X = (RANDOM.standard_normal((ROWS, 12)) @ MIX + 0.3 * RANDOM.standard_normal((ROWS, INPUTS))).astype(np.float32)
W = RANDOM.standard_normal((INPUTS, OUTPUTS)).astype(np.float32)


def steps(qmax: int) -> Array:
    found: Array = (np.abs(W).max(0, keepdims=True) / qmax).astype(np.float32)
    return found


def error(codes: Array, scale: Array, x: Array = X, wanted: Array | None = None) -> float:
    return float(np.square(x @ (codes * scale) - (x @ W if wanted is None else wanted)).sum())


def by_elimination(weight: Array, scale: Array, qmax: int, second: Array) -> Array:
    """Equation 2 row by row, the inverse updated as in equation 3."""
    moments = second.astype(np.float64)
    moments += DAMPING * np.diag(moments).mean() * np.eye(len(moments))
    order = np.argsort(-np.diag(moments), kind="stable")
    inverse, wanted = np.linalg.inv(moments[np.ix_(order, order)]), weight[order].astype(np.float64)
    rows = np.broadcast_to(scale, weight.shape)[order]
    codes = np.zeros(wanted.shape)
    for place in range(len(order)):
        codes[place] = np.clip(np.rint(wanted[place] / rows[place]), -qmax, qmax)
        missed = (wanted[place] - codes[place] * rows[place]) / inverse[place, place]
        wanted -= np.outer(inverse[:, place], missed)
        inverse = inverse - np.outer(inverse[:, place], inverse[place]) / inverse[place, place]
        inverse[place, place] = 1  # never read again
    found = np.zeros(wanted.shape)
    found[order] = codes
    return found


@pytest.mark.parametrize("qmax", [127, 7])
def test_the_equations_step_by_step(qmax: int) -> None:
    """More rows than a block of the implementation has."""
    scale = steps(qmax)
    found = compensated_codes(W, scale, qmax, X.T @ X)
    assert found.dtype == np.int8
    assert np.mean(found == by_elimination(W, scale, qmax, X.T @ X)) > 0.999  # float32 sums, ties


def test_scales_along_the_inputs() -> None:
    blocks = np.repeat(np.abs(W.reshape(-1, 32, OUTPUTS)).max(1) / 7, 32, axis=0).astype(np.float32)
    found = compensated_codes(W, blocks, 7, X.T @ X)
    assert np.mean(found == by_elimination(W, blocks, 7, X.T @ X)) > 0.999
    assert error(found, blocks) < 0.5 * error(np.clip(np.rint(W / blocks), -7, 7), blocks)


def test_less_error_than_the_nearest() -> None:
    scale = steps(127)
    found = compensated_codes(W, scale, 127, X.T @ X)
    other = (RANDOM.standard_normal((500, 12)) @ MIX + 0.3 * RANDOM.standard_normal((500, INPUTS))).astype(np.float32)
    nearest = np.rint(W / scale)
    assert error(found, scale, other, other @ W) < 0.4 * error(nearest, scale, other, other @ W)
    assert np.abs(found - nearest).max() <= 3


def test_inputs_that_say_nothing_of_one_another_leave_the_nearest() -> None:
    scale = steps(127)
    np.testing.assert_array_equal(
        compensated_codes(W, scale, 127, np.eye(INPUTS, dtype=np.float32)), np.rint(W / scale)
    )
    np.testing.assert_array_equal(
        compensated_codes(W, scale, 127, np.zeros((INPUTS, INPUTS), np.float32)), np.rint(W / scale)
    )


def test_the_inputs_own_error_is_made_good_where_it_follows_from_them() -> None:
    read = np.clip(X, -4, 4)
    assert np.mean(read != X) > 0.05
    scale = (2 * steps(127)).astype(np.float32)
    second, shift = read.T @ read, read.T @ (X - read)
    plain = compensated_codes(W, scale, 127, second)
    better = compensated_codes(W, scale, 127, second, shift)
    assert error(better, scale, read, X @ W) < 0.6 * error(plain, scale, read, X @ W)


def test_pairs_stay_within_their_bound() -> None:
    scale = (steps(127) / 2).astype(np.float32)  # every column has pairs whose nearest codes break it
    partners = [np.arange(INPUTS) ^ 1, np.roll(np.arange(INPUTS).reshape(2, -1), 1, 0).reshape(-1)]
    free = compensated_codes(W, scale, 127, X.T @ X)
    bound = compensated_codes(W, scale, 127, X.T @ X, partners=partners)
    assert not pairs_fit(free, 0)
    assert pairs_fit(bound, 0)
    assert np.abs(bound[: INPUTS // 2].astype(int) + bound[INPUTS // 2 :]).max() <= PAIR_LIMIT
