"""Matrices are orthogonal, spread evenly, keep the vector of ones where asked, and are the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from qcompiler.passes.rotate.hadamard import factors, hadamard, rotation, rotation_keeping_ones, signs


@pytest.mark.parametrize("size", [1, 2, 12, 20, 28, 36, 40, 48, 64, 96, 160, 576, 768, 1536])
def test_hadamard_matrices_of_many_sizes(size: int) -> None:
    made = hadamard(size)
    assert made is not None
    assert set(np.unique(made)) <= {-1, 1}
    wide = made.astype(np.float64)
    np.testing.assert_array_equal(wide @ wide.T, size * np.eye(size))


@pytest.mark.parametrize("size", [3, 7, 52, 100, 14])
def test_other_sizes_are_orthogonal_and_nearly_even(size: int) -> None:
    assert hadamard(size) is None
    made = rotation(size, 5)
    np.testing.assert_allclose(made @ made.T, np.eye(size), atol=1e-12)
    assert np.abs(made).max() < 1.42 * size**-0.5


@pytest.mark.parametrize("size", [4, 7, 16, 192, 576])
def test_the_mean_is_kept(size: int) -> None:
    made = rotation_keeping_ones(size, 3)
    np.testing.assert_allclose(made @ made.T, np.eye(size), atol=1e-12)
    np.testing.assert_allclose(made.sum(0), 1, atol=1e-11)
    np.testing.assert_allclose(made.sum(1), 1, atol=1e-11)
    assert np.abs(made).max() < 4 * size**-0.5  # one channel does not stay alone


def test_a_seed_gives_the_same_bytes() -> None:
    digest = hashlib.sha256(rotation(28, 1).tobytes() + rotation_keeping_ones(21, 2).round(12).tobytes()).hexdigest()
    assert digest[:16] == "0a6e4831ed5a743a"
    assert not np.array_equal(signs(64, 0), signs(64, 1))
    assert 20 < (signs(64, 0) > 0).sum() < 44


@pytest.mark.parametrize(
    ("size", "expected"),
    [(32, (1, 32)), (64, (1, 64)), (768, (24, 32)), (1536, (48, 32)), (576, (36, 16)), (99, (1, 99))],
)
def test_two_factors_near_the_root(size: int, expected: tuple[int, int]) -> None:
    assert factors(size) == expected
