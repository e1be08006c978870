"""No accumulator overflows: pair-safe weights, and uint8 x int8 kernels of this machine that agree with integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.numerics import pairs_fit, quantize, weight_scale
from qcompiler.scheme import QuantScheme, TensorQuant, int8_weight
from qcompiler.session import Session
from tests.building import build

Array = np.ndarray[Any, Any]
_SESSIONS: dict[str, Session] = {}


def integer_product(a: Array, b: Array) -> Array:
    """(a - 128) @ b by MatMulInteger."""
    if "MatMulInteger" not in _SESSIONS:
        text = (
            "m (uint8[M, K] a, int8[K, N] b, uint8 za, int8 zb) => (int32[M, N] y) { y = MatMulInteger(a, b, za, zb) }"
        )
        _SESSIONS["MatMulInteger"] = Session(build(text), optimize=False)
    zeros = {"za": np.asarray(128, np.uint8), "zb": np.asarray(0, np.int8)}
    return _SESSIONS["MatMulInteger"].run({"a": a, "b": b, **zeros})["y"]


def fused_product(a: Array, codes: Array, scale: Array) -> Array:
    """The same with constant, prepacked weights, by MatMulIntegerToFloat with all scales 1."""
    text = """m (uint8[M, K] a) => (float[M, N] y) {
        y = com.microsoft.MatMulIntegerToFloat(a, b, s, s, za, zb) }"""
    model = build(text, b=codes, s=np.float32(1), za=np.uint8(128), zb=np.int8(0))
    return Session(model, optimize=False).run({"a": a})["y"]


def reference(a: Array, b: Array) -> Array:
    return (a.astype(np.int32) - 128) @ b.astype(np.int32)


weights = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 70), st.integers(1, 20)),
    elements=st.floats(-8, 8, width=32),
    fill=st.sampled_from([-1.0, 1.0]),
)


@settings(max_examples=40, deadline=None)
@given(weights, st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_pair_safe_weights_give_exact_integers(weight: Array, rows: int, seed: int) -> None:
    scheme = int8_weight(1)
    codes = quantize(weight, TensorQuant(scheme, weight_scale(weight, scheme, pair_axis=0)))
    assert pairs_fit(codes, 0)
    random = np.random.default_rng(seed)
    a = random.choice(np.array([0, 1, 128, 254, 255], np.uint8), (rows, weight.shape[0]))
    np.testing.assert_array_equal(integer_product(a, codes), reference(a, codes))


def test_the_worst_activations_on_the_worst_weights() -> None:
    weight = np.ones((256, 32), np.float32)  # all weights at the end of the range, all activations too
    weight[:, 1::2] = -1
    for scheme in (int8_weight(1), QuantScheme()):
        codes = quantize(weight, TensorQuant(scheme, weight_scale(weight, scheme, pair_axis=0)))
        assert np.abs(codes).max() >= 63  # no more than a bit is given up
        for value in (0, 255):
            a = np.full((5, 256), value, np.uint8)
            np.testing.assert_array_equal(integer_product(a, codes), reference(a, codes))
            np.testing.assert_array_equal(fused_product(a, codes, weight), reference(a, codes))


def test_unsigned_weights_are_exact_at_full_range() -> None:
    codes = np.full((256, 32), 127, np.int8)
    codes[:, 1::2] = -127
    shifted = codes.view(np.uint8) ^ np.uint8(128)
    text = "m (uint8[M, K] a) => (int32[M, N] y) { y = MatMulInteger(a, b, z, z) }"
    session = Session(build(text, b=shifted, z=np.uint8(128)), optimize=False)
    for value in (0, 255):
        a = np.full((5, 256), value, np.uint8)
        np.testing.assert_array_equal(session.run({"a": a})["y"], reference(a, codes))
