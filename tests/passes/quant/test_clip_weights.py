"""Weight scales of least square error: against a dense search, on every granularity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.numerics import SMALLEST_SCALE, dequantize, quantize, weight_scale
from qcompiler.passes.quant.clip_weights import COARSE, least_squares_scale
from qcompiler.scheme import PerAxis, PerBlock, PerTensor, QuantScheme, TensorQuant

W = np.random.default_rng(0).standard_normal((96, 24)).astype(np.float32)
W[3, 5] = 9.0


def error(weight: np.ndarray[Any, Any], scheme: QuantScheme, scale: np.ndarray[Any, Any]) -> float:
    quant = TensorQuant(scheme, scale)
    return float(np.square(dequantize(quantize(weight, quant), quant) - weight).sum())


@pytest.mark.parametrize("bits", [4, 6])
def test_close_to_a_dense_search_by_channel(bits: int) -> None:
    scheme = QuantScheme(granularity=PerAxis(1), bits=bits)
    found, top = least_squares_scale(W, scheme), weight_scale(W, scheme)
    assert found.shape == (24,)
    assert found.dtype == np.float32
    tried = [top * np.float32(share) for share in np.linspace(0.3, 1.0, 141)]
    single = QuantScheme(granularity=PerAxis(1), bits=bits)
    ratios = []
    for channel in range(24):
        column = W[:, [channel]]
        least = min(error(column, single, scale[[channel]]) for scale in tried)
        ratios.append(error(column, single, found[[channel]]) / least)
    assert max(ratios) <= 1.15  # of 96 elements the error is rough in the scale
    assert np.mean(ratios) <= 1.04
    assert error(W, scheme, found) < error(W, scheme, top)


@pytest.mark.parametrize(("axis", "shape"), [(0, (3, 24)), (1, (24, 3))])
def test_blocks_lie_along_their_axis(axis: int, shape: tuple[int, ...]) -> None:
    weight = W if axis == 0 else np.ascontiguousarray(W.T)
    scheme = QuantScheme(granularity=PerBlock(axis, 32), bits=4)
    found = least_squares_scale(weight, scheme)
    assert found.shape == shape
    part = np.take(weight, range(32, 64), axis)
    alone = least_squares_scale(part, QuantScheme(granularity=PerAxis(1 - axis), bits=4))
    np.testing.assert_array_equal(np.take(found, 1, axis), alone)


def test_per_tensor_and_stacks() -> None:
    scheme = QuantScheme(granularity=PerTensor(), bits=4)
    found = least_squares_scale(W.reshape(2, 48, 24), scheme)
    assert found.shape == ()
    assert found < weight_scale(W, scheme)


def test_a_channel_on_the_grid_keeps_its_maximum() -> None:
    codes = np.tile(np.arange(-7, 8, dtype=np.float32), (3, 1))
    scheme = QuantScheme(granularity=PerAxis(0), bits=4)
    np.testing.assert_allclose(least_squares_scale(codes, scheme), 1.0, rtol=1e-6)


def test_dead_channels_have_the_smallest_scale_and_arrays_stay() -> None:
    weight = W.copy()
    weight[:, 2] = 0
    before = weight.copy()
    found = least_squares_scale(weight, QuantScheme(granularity=PerAxis(1), bits=4))
    assert found[2] == SMALLEST_SCALE
    np.testing.assert_array_equal(weight, before)


def test_half_precision_weights() -> None:
    scheme = QuantScheme(granularity=PerAxis(1), bits=6)
    found = least_squares_scale(W.astype(np.float16), scheme)
    np.testing.assert_allclose(found, least_squares_scale(W, scheme), rtol=0.1)


def test_many_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = QuantScheme(granularity=PerAxis(1), bits=4)
    whole = least_squares_scale(W, scheme)
    monkeypatch.setattr("qcompiler.passes.quant.clip_weights._PIECE", 100)
    np.testing.assert_array_equal(least_squares_scale(W, scheme), whole)
    assert COARSE[0] == 1
