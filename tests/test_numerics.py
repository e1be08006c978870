"""The reference arithmetic: rounding, saturation, scales of weights; against onnxruntime bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.numerics import (
    PAIR_LIMIT,
    SMALLEST_SCALE,
    broadcast_scale,
    dequantize,
    pairs_fit,
    quantize,
    sqnr,
    weight_scale,
)
from qcompiler.scheme import INT8_ACTIVATION, PerAxis, PerBlock, PerTensor, QuantScheme, TensorQuant, int8_weight
from qcompiler.session import Session
from tests.building import build, per_tensor

FULL_RANGE = QuantScheme(symmetric=False)
scales = st.floats(2.0**-20, 2.0**10, width=32)
floats = st.floats(-1e6, 1e6, width=32)
vectors = hnp.arrays(np.float32, st.integers(1, 40), elements=floats)


@given(vectors, scales)
def test_inside_the_range_the_error_is_at_most_half_a_step(x: np.ndarray[Any, Any], scale: float) -> None:
    quant = per_tensor(scale)
    inside = x[np.abs(x) <= 127 * scale]
    back = dequantize(quantize(inside, quant), quant).astype(np.float64)
    # x / scale and code * scale are rounded to float32: relative 2^-24 each, of at most 127 steps
    assert np.all(np.abs(back - inside) <= scale * (0.5 + 2 * 127 * 2.0**-24))


@given(vectors, scales)
def test_codes_saturate_at_the_symmetric_range(x: np.ndarray[Any, Any], scale: float) -> None:
    codes = quantize(x, per_tensor(scale))
    assert codes.dtype == np.int8
    assert codes.min() >= -127
    assert np.array_equal(quantize(-x, per_tensor(scale)), -codes)
    assert np.all(codes[x > 128 * scale] == 127)
    assert np.all(codes[x < -128 * scale] == -127)


@settings(max_examples=50, deadline=None)
@given(vectors, scales, st.integers(-128, 127))
def test_codes_are_those_of_onnxruntime(x: np.ndarray[Any, Any], scale: float, zero: int) -> None:
    quant = TensorQuant(FULL_RANGE, np.asarray(scale, np.float32), np.asarray(zero, np.int8))
    found = quantize_session().run({"x": x, "s": quant.scale, "z": np.asarray(zero, np.int8)})
    assert np.array_equal(found["q"], quantize(x, quant))
    assert np.array_equal(found["d"], dequantize(found["q"], quant))


def test_halves_round_to_even() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    assert quantize(x, per_tensor(1.0)).tolist() == [-2, -2, 0, 0, 2, 2]
    found = quantize_session().run({"x": x, "s": np.ones((), np.float32), "z": np.zeros((), np.int8)})
    assert found["q"].tolist() == [-2, -2, 0, 0, 2, 2]


_SESSIONS: list[Session] = []


def quantize_session() -> Session:
    """QuantizeLinear and DequantizeLinear with scale and zero point as inputs."""
    if not _SESSIONS:
        model = build("""m (float[N] x, float s, int8 z) => (int8[N] q, float[N] d) {
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
        }""")
        _SESSIONS.append(Session(model, optimize=False))
    return _SESSIONS[0]


def test_scales_per_axis_and_block_broadcast() -> None:
    axis = TensorQuant(QuantScheme(granularity=PerAxis(1)), np.arange(1, 4, dtype=np.float32))
    assert broadcast_scale(axis, (2, 3, 4)).shape == (1, 3, 1)
    block = TensorQuant(QuantScheme(granularity=PerBlock(1, 2)), np.array([[1, 2], [3, 4]], np.float32))
    assert broadcast_scale(block, (2, 4)).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]
    negative = TensorQuant(QuantScheme(granularity=PerAxis(-1)), np.arange(1, 5, dtype=np.float32))
    assert broadcast_scale(negative, (2, 3, 4)).shape == (1, 1, 4)


@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 6), 0), ((4, 6), 1), ((5, 3, 2, 2), 0), ((3, 5, 2, 2), 1), ((2, 3, 4), 2)]
)
def test_weight_scales_lead_each_channel_to_the_end_of_the_range(shape: tuple[int, ...], axis: int) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    scheme = int8_weight(axis)
    scale = weight_scale(weight, scheme)
    assert scale.shape == (shape[axis],) and scale.dtype == np.float32
    codes = np.moveaxis(quantize(weight, TensorQuant(scheme, scale)), axis, 0).reshape(shape[axis], -1)
    assert np.abs(codes).max(axis=1).tolist() == [127] * shape[axis]


def test_one_scale_per_tensor_and_float16_weights() -> None:
    weight = np.array([[0.5, -2.54], [1.0, 0.0]], np.float16)
    scale = weight_scale(weight, QuantScheme(granularity=PerTensor()))
    assert scale.shape == () and scale.dtype == np.float32
    assert float(scale) == pytest.approx(2.54 / 127, rel=1e-3)


def test_dead_channels_take_the_smallest_scale() -> None:
    weight = np.array([[0, 1], [0, 2]], np.float32)
    scale = weight_scale(weight, int8_weight(1))
    assert scale[0] == SMALLEST_SCALE
    assert np.float16(SMALLEST_SCALE) == SMALLEST_SCALE > 0
    assert weight_scale(np.zeros((0, 3), np.float32), int8_weight(1)).tolist() == [float(SMALLEST_SCALE)] * 3


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-4, 4, width=32)),
    st.sampled_from([(0, 1), (1, 0)]),
)
def test_pair_safe_scales_keep_neighbours_within_the_limit(weight: np.ndarray[Any, Any], axes: tuple[int, int]) -> None:
    channel_axis, pair_axis = axes
    scheme = int8_weight(channel_axis)
    scale = weight_scale(weight, scheme, pair_axis=pair_axis)
    assert pairs_fit(quantize(weight, TensorQuant(scheme, scale)), pair_axis)
    free = weight_scale(weight, scheme)
    assert np.all(scale >= free)
    assert np.all(scale <= np.float32(2.01) * free)  # at most a bit is given up


def test_pairs_at_the_limit() -> None:
    assert pairs_fit(np.array([[64, 64]], np.int8), 1)
    assert pairs_fit(np.array([[-64, -64, 127]], np.int8), 1)  # the odd one has no neighbour
    assert not pairs_fit(np.array([[64, 65]], np.int8), 1)
    assert not pairs_fit(np.array([[-127, -2]], np.int8), 1)
    assert pairs_fit(np.array([[127], [-127]], np.int8), 0)
    assert 255 * PAIR_LIMIT < 2**15 <= 255 * (PAIR_LIMIT + 1)


def test_sqnr() -> None:
    one = np.array([3.0, 4.0])
    assert sqnr(one, one) == float("inf")
    assert sqnr(one, np.array([3.5, 4.0])) == pytest.approx(20.0)
    assert sqnr(np.zeros(2), one) == float("-inf")
    assert sqnr(np.zeros(0), np.zeros(0)) == 0.0


def test_scheme_ranges() -> None:
    assert (INT8_ACTIVATION.qmin, INT8_ACTIVATION.qmax) == (-127, 127)
    assert (FULL_RANGE.qmin, FULL_RANGE.qmax) == (-128, 127)
    four = QuantScheme(ir.DataType.INT8, bits=4)
    assert (four.qmin, four.qmax) == (-7, 7)
    assert quantize(np.array([100.0], np.float32), TensorQuant(four, np.asarray(1, np.float32))).tolist() == [7]
