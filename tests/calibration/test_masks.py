"""Padding is dropped along the right axes, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.calibration.inputs import InputSpec
from qcompiler.calibration.masks import MaskedAxes, drop_padding, find_mask, masked_axes, padding

I64 = np.dtype(np.int64)
MASK = InputSpec("attention_mask", I64, ("b", "s"))
FIXED_MASK = InputSpec("attention_mask", I64, (2, 8))
REAL = np.array([[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0]], bool)


@pytest.mark.parametrize(
    ("symbolic", "shape", "expected"),
    [
        (["b", "s", 384], (2, 8, 384), MaskedAxes((1,))),
        (["b", "s", 8], (2, 8, 8), MaskedAxes((1,))),
        (["b", 4, "s", 8], (2, 4, 8, 8), MaskedAxes((2,))),
        (["b", 4, 8, "s"], (2, 4, 8, 8), MaskedAxes((3,))),
        (["b", 4, "s", "s"], (2, 4, 8, 8), MaskedAxes((2, 3))),
        ([None, 4, None, 16], (2, 4, 8, 16), MaskedAxes((2,))),
        (["b*s", 16], (16, 16), MaskedAxes((), flat=True)),
        ([None, None, 16], (8, 8, 16), MaskedAxes((1,), heads=4)),
        ([None, None, None], (8, 8, 8), MaskedAxes((1, 2), heads=4)),
        (["b", 1, 1, "s"], (2, 1, 1, 8), MaskedAxes((3,))),
        (None, (2, 8, 5), MaskedAxes((1,))),
        (["b", 384], (2, 384), None),
        ([16, 8], (16, 8), None),
        ([1, "s", 384], (1, 8, 384), None),
        ([8], (8,), None),
        ([], (), None),
        (["b", 3, 7, 7], (2, 3, 7, 7), None),
    ],
)
def test_axes_by_symbolic_sizes_then_by_sizes(symbolic: Any, shape: Any, expected: MaskedAxes | None) -> None:
    assert masked_axes(symbolic, shape, MASK, (2, 8)) == expected


def test_axes_of_a_fixed_model_go_by_size() -> None:
    assert masked_axes([2, 8, 16], (2, 8, 16), FIXED_MASK, (2, 8)) == MaskedAxes((1,))
    assert masked_axes([2, 4, 8, 8], (2, 4, 8, 8), FIXED_MASK, (2, 8)) == MaskedAxes((2, 3))
    assert masked_axes([16, 4], (16, 4), FIXED_MASK, (2, 8)) == MaskedAxes((), flat=True)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 8, 3), MaskedAxes((1,))),
        ((2, 3, 8, 5), MaskedAxes((2,))),
        ((2, 3, 5, 8), MaskedAxes((3,))),
        ((2, 3, 8, 8), MaskedAxes((2, 3))),
        ((6, 8, 5), MaskedAxes((1,), heads=3)),
        ((16, 5), MaskedAxes((), flat=True)),
    ],
)
def test_what_is_left_are_the_real_positions(shape: tuple[int, ...], axes: MaskedAxes) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    marked = array.copy()
    view = marked.reshape(2, 8, -1) if axes.flat else marked
    for index in range(view.shape[0]):
        for axis in (1,) if axes.flat else axes.sequence:
            view[index][(slice(None),) * (axis - 1) + (~REAL[index // axes.heads],)] = np.nan
    expected = marked[~np.isnan(marked)]
    assert np.array_equal(np.sort(drop_padding(array, REAL, axes)), np.sort(expected))
    assert 0 < expected.size < array.size


def test_the_mask_is_found_by_name_and_rank() -> None:
    ids, other = InputSpec("input_ids", I64, ("b", "s")), InputSpec("text.mask", I64, ("b", "s"))
    assert find_mask([ids, MASK, other]) is MASK
    assert find_mask([ids, other]) is other
    assert find_mask([ids, other, InputSpec("mask2", I64, ("b", "s"))]) is None
    assert find_mask([ids, InputSpec("attention_mask", I64, ("b", 1, "s", "s"))]) is None


def test_padding_is_none_where_nothing_is_padded_or_it_is_no_mask() -> None:
    def of(array: Any) -> Any:
        return padding({"attention_mask": np.asarray(array)}, MASK)

    assert of([[1, 1], [1, 1]]) is None
    assert of([[0, 0]]) is None
    assert of([[0.0, -10000.0]]) is None
    assert of([[2, 0]]) is None
    assert padding({}, None) is None
    assert of([[1, 0]]).tolist() == [[True, False]]
    assert of(np.array([[True, False]])).tolist() == [[True, False]]
    assert of(np.array([[1.0, 0.0]], np.float32)).tolist() == [[True, False]]
