"""Orders name each channel once, and keep large channels from meeting."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from qcompiler.passes.rotate.hadamard import rotation, rotation_keeping_ones
from qcompiler.passes.rotate.orders import Order, dealt, dealt_by_factor, levelled, parts_of, shuffled, split_signs

RANDOM = np.random.default_rng(3)


def orders(size: int, rows: int) -> dict[str, Order]:
    sizes = np.abs(RANDOM.standard_normal(size))
    return {
        "shuffled": shuffled(size, 1),
        "dealt": dealt(sizes, rows, size // rows),
        "dealt by factor": dealt_by_factor(sizes, rows, size // rows),
        "levelled": levelled(RANDOM.standard_normal(size), rotation(size)),
    }


@pytest.mark.parametrize(("size", "rows"), [(1, 1), (7, 1), (12, 3), (24, 4), (64, 8), (99, 9), (192, 12), (1536, 48)])
def test_every_channel_once(size: int, rows: int) -> None:
    for name, order in orders(size, rows).items():
        channels, turned = split_signs(order)
        assert sorted(channels) == list(range(size)), name
        assert set(turned) <= {-1.0, 1.0}


@pytest.mark.parametrize("size", [4, 7, 16, 28, 99, 192])
def test_a_placed_rotation_is_orthogonal_and_keeps_ones(size: int) -> None:
    for order in orders(size, 1).values():
        channels, turned = split_signs(order)
        made, plain = rotation(size, 2, order), rotation(size, 2)
        np.testing.assert_array_equal(made[channels], plain * turned[:, None])
        kept = rotation_keeping_ones(size, 2, order)
        np.testing.assert_allclose(kept @ kept.T, np.eye(size), atol=1e-12)
        np.testing.assert_allclose(kept.sum(0), 1, atol=1e-11)
        np.testing.assert_allclose(kept.sum(1), 1, atol=1e-11)


def test_a_seed_gives_the_same_bytes() -> None:
    order = shuffled(28, 1)
    assert order != shuffled(28, 2) and order != tuple(range(28))
    made = rotation(28, 1, order)
    assert hashlib.sha256(repr(order).encode() + made.tobytes()).hexdigest()[:16] == "dd3092f61f90bb62"


def test_the_largest_share_no_row_and_no_column() -> None:
    peaks = RANDOM.permutation(24 * 32).astype(np.float64)
    table = np.array(dealt(peaks, 24, 32)).reshape(24, 32)
    where = [np.argwhere(table == channel)[0] for channel in np.argsort(-peaks)[:24]]
    assert len({row for row, _ in where}) == len({column for _, column in where}) == 24


def test_products_of_two_orders() -> None:
    peaks = RANDOM.permutation(12).astype(np.float64)
    order = dealt_by_factor(peaks, 3, 4)
    parts = parts_of(order, 3, 4)
    assert parts is not None and order[0] == np.argmax(peaks.reshape(3, 4).max(1)) * 4 + parts[1][0]
    assert [row * 4 + column for row in parts[0] for column in parts[1]] == list(order)
    assert parts_of((1, 0, *range(2, 12)), 3, 4) is None


@pytest.mark.parametrize("size", [64, 192, 100])
def test_levelled_means_do_not_add_up(size: int) -> None:
    """Of 16 channels of one mean: the flattest that there is has 4 in each column, times the entry."""
    for seed in range(4):
        means = np.zeros(size)
        means[RANDOM.permutation(size)[:16]] = RANDOM.choice([-1.0, 1.0], 16)
        matrix = rotation(size, seed)
        made = rotation(size, seed, levelled(means, matrix))
        assert np.abs(means @ made).max() <= 0.85 * np.abs(means @ matrix).max()
        assert np.sum((means @ made) ** 4) < 0.75 * np.sum((means @ matrix) ** 4)
