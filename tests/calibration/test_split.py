"""Holding back: deterministic, never empty, nothing lost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.calibration.data import InputSpec, open_source
from qcompiler.calibration.split import MAX_HELD_BACK, hold_back

FREE = (InputSpec("x", np.dtype(np.float32), ("batch", 2)),)
FIXED = (InputSpec("x", np.dtype(np.float32), (1, 2)),)


def _feeds(count: int, rows: int = 1) -> list[dict[str, Any]]:
    return [{"x": np.full((rows, 2), index, np.float32)} for index in range(count)]


def _ids(feeds: Any) -> list[float]:
    return [float(feed["x"][0, 0]) for feed in feeds]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 200), st.floats(0.02, 0.5))
def test_each_feed_goes_to_one_side_and_neither_is_empty(count: int, share: float) -> None:
    split = hold_back(open_source(_feeds(count), FREE), share)
    calibration = _ids(split)
    validation = _ids(split.validation)
    assert sorted(calibration + validation) == list(range(count))
    assert calibration
    assert 1 <= len(validation) <= MAX_HELD_BACK
    assert (split.calibration_count, split.validation_count) == (len(calibration), len(validation))
    first = (split.calibration_fingerprint, split.validation_fingerprint)
    assert _ids(split) == calibration
    assert (split.calibration_fingerprint, split.validation_fingerprint) == first
    assert split.source.count == count


def test_a_one_shot_stream_is_split_in_one_pass() -> None:
    split = hold_back(open_source(iter(_feeds(20)), FREE), 0.1)
    assert len(_ids(split)) == 18
    first, second = _ids(split.validation)
    assert 0 < first < 10 <= second < 20


def test_data_that_repeats_itself_is_not_split_by_kind() -> None:
    split = hold_back(open_source(_feeds(96), FREE))
    kinds = {value % 8 for value in _ids(split)}
    held = [value % 8 for value in _ids(split.validation)]
    assert kinds == set(range(8))
    assert len(held) == 12
    assert len(set(held)) >= 4


def test_of_a_single_feed_the_last_rows_are_held_back() -> None:
    array = np.arange(40, dtype=np.float32).reshape(20, 2)
    split = hold_back(open_source([{"x": array}], FREE))
    (kept,) = list(split)
    (held,) = split.validation
    assert np.array_equal(np.concatenate([kept["x"], held["x"]]), array)
    assert len(held["x"]) == 2
    assert (split.calibration_count, split.validation_count) == (18, 2)
    assert not split.diagnostics


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.floats(0.02, 0.5))
def test_rows_of_ragged_feeds_are_split_by_share(rows: list[int], share: float) -> None:
    total = sum(rows)
    if total < 2:
        return
    array = np.arange(total, dtype=np.float32)[:, None].repeat(2, 1)
    feeds = [{"x": part} for part in np.split(array, np.cumsum(rows)[:-1])]
    split = hold_back(open_source(feeds, FREE), share)
    calibration = [value for feed in split for value in feed["x"][:, 0]]
    validation = [value for feed in split.validation for value in feed["x"][:, 0]]
    assert sorted(calibration + validation) == list(range(total))
    blocks = total / max(2, round(1 / share))
    assert min(MAX_HELD_BACK, max(1, math.floor(blocks))) <= len(validation)
    assert len(validation) <= min(MAX_HELD_BACK, math.ceil(blocks))
    assert not split.diagnostics


def test_batches_of_a_fixed_size_are_held_back_whole() -> None:
    inputs = (InputSpec("x", np.dtype(np.float32), (4, 2)),)
    split = hold_back(open_source({"x": np.arange(80, dtype=np.float32).reshape(40, 2)}, inputs))
    assert len(list(split)) == 9
    assert [feed["x"].shape for feed in split.validation] == [(4, 2)]


@pytest.mark.parametrize("inputs", [FREE, FIXED])
def test_one_sample_serves_for_both_and_says_so(inputs: Any) -> None:
    split = hold_back(open_source(_feeds(1), inputs))
    assert _ids(split) == _ids(split.validation) == [0.0]
    assert [item.code for item in split.diagnostics] == ["QC201"]
    assert split.calibration_fingerprint == split.validation_fingerprint


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        hold_back(open_source(_feeds(3), FREE), 0.9)
