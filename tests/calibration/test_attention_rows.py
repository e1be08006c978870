"""The sample of attention rows: bounded, the same in any order, by head."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from qcompiler.calibration.attention_rows import HEAD_BYTES, MOST_ITEMS, AttentionItem, AttentionRows
from qcompiler.errors import CalibrationError

RANDOM = np.random.default_rng(3)


def batch(count: int = 1, heads: int = 2, length: int = 7, width: int = 3) -> tuple[np.ndarray, np.ndarray]: 
    weights = RANDOM.random((count, heads, 5, length)).astype(np.float32)
    return weights, RANDOM.standard_normal((count, heads, length, width)).astype(np.float32)


def keys(rows: AttentionRows) -> list[list[bytes]]:
    return [[item.key for item in head] for head in rows.heads]


def test_rows_belong_to_their_values() -> None:
    weights, values = batch(2)
    rows = AttentionRows().observe(weights, values)
    assert len(rows.heads) == 2
    products = {np.round(item.rows @ item.values, 5).tobytes() for item in rows.heads[1]}
    assert products == {np.round(weights[i, 1] @ values[i, 1], 5).tobytes() for i in range(2)}


def test_merging_shards_in_any_order_equals_observing_all() -> None:
    batches = [batch(3, length=size) for size in (7, 400, 30_000, 9)]
    whole = AttentionRows()
    for weights, values in batches:
        whole = whole.observe(weights, values)
    shards = [AttentionRows().observe(*pair) for pair in batches]
    for order in permutations(shards):
        merged = AttentionRows()
        for shard in order:
            merged = merged.merge(shard)
        assert keys(merged) == keys(whole)


def test_memory_does_not_grow_with_samples() -> None:
    rows = AttentionRows()
    for _ in range(40):
        rows = rows.observe(*batch(2, length=600, width=16))
    assert all(2 <= len(head) <= MOST_ITEMS for head in rows.heads)
    assert all(sum(item.nbytes for item in head) <= HEAD_BYTES for head in rows.heads)


def test_two_items_stay_however_long_the_rows() -> None:
    rows = AttentionRows()
    for _ in range(3):
        rows = rows.observe(*batch(1, length=200_000))
    assert [len(head) for head in rows.heads] == [2, 2]
    assert {len(item.rows) for head in rows.heads for item in head} == {1}


def test_values_broadcast_over_heads_and_three_axes_are_one_head() -> None:
    weights, values = batch(2, heads=4)
    assert len(AttentionRows().observe(weights, values[:, :1]).heads) == 4
    assert [len(head) for head in AttentionRows().observe(weights[:, 0], values[:, 0]).heads] == [2]


def test_what_is_not_finite_is_refused() -> None:
    weights, values = batch()
    values[0, 0, 0, 0] = np.inf
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        AttentionRows().observe(weights, values)


def test_items_are_copies() -> None:
    weights, values = batch()
    item: AttentionItem = AttentionRows().observe(weights, values).heads[0][0]
    before = item.values.copy()
    values[:] = 0
    np.testing.assert_array_equal(item.values, before)
