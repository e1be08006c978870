"""Where biases are: of the layer itself, behind a MatMul, or nowhere, with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.quant.bias_places import bias_places
from tests.building import Array, build

W = np.ones((4, 6), np.float32)
K = np.ones((6, 4, 3, 3), np.float32)
B = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize(
    ("body", "index", "axis"),
    [
        ("[n] y = Gemm(x, w, b)", 2, 1),
        ("[n] y = Gemm(x, w)", 2, 1),
        ("[n] y = Gemm<transB = 1>(x, v, b)", 2, 1),
        ("[n] h = MatMul(x, w) y = Add(h, b)", 1, 1),
        ("[n] h = MatMul(x, w) y = Add(b, h)", 0, 1),
    ],
)
def test_places_of_products(body: str, index: int, axis: int) -> None:
    model = build(f"m (float[N, 4] x) => (float[N, 6] y) {{ {body} }}", w=W, v=W.T.copy(), b=B)
    places, skipped = bias_places(model, {"n"})
    assert skipped == []
    assert [(item.layer, item.index, item.axis, item.channels) for item in places] == [("n", index, axis, 6)]
    assert places[0].output.name == "y"


@pytest.mark.parametrize(
    ("body", "weight"),
    [
        ("[n] y = Conv(x, k)", K),
        ("[n] y = Conv(x, k, b)", K),
        ("[n] y = Conv<group = 2>(x, k, b)", np.ones((6, 2, 1, 1), np.float32)),
        ("[n] y = ConvTranspose(x, k, b)", np.ones((4, 6, 2, 2), np.float32)),
        ("[n] y = ConvTranspose<group = 2>(x, k)", np.ones((4, 3, 2, 2), np.float32)),
    ],
)
def test_places_of_convolutions(body: str, weight: Array) -> None:
    model = build(f"m (float[1, 4, 8, 8] x) => (float[1, 6, H, V] y) {{ {body} }}", k=weight, b=B)
    places, skipped = bias_places(model, {"n"})
    assert skipped == []
    assert [(item.index, item.axis, item.channels) for item in places] == [(2, 1, 6)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("m (float[N, 4] x) => (float[N, 6] y) { [n] y = MatMul(x, w) }", "a MatMul without a bias behind it"),
        ("m (float[N, 4] x) => (float[N, 6] y) { [n] h = MatMul(x, w) y = Add(h, s) }",
         "a MatMul without a bias behind it"),
        ("m (float[N, 4] x) => (float[N, 6] y, float[N, 6] h) { [n] h = MatMul(x, w) y = Add(h, b) }",
         "a MatMul without a bias behind it"),
        ("m (float[N, 4] x, float[4, 6] u) => (float[N, 6] y) { [n] y = MatMul(x, u) }",
         "its second input is no constant weight"),
        ("m (float[N, 4] x) => (float[N, 6] y) { [n] y = Gemm<beta = 0.5>(x, w, b) }", "a Gemm that scales its bias"),
        ("m (float[N, 4] x, float[6] c) => (float[N, 6] y) { [n] y = Gemm(x, w, c) }",
         "its bias is computed at run time"),
        ("m (float[N, 4] x) => (float[N, 6] y) { [n] y = Gemm(x, w, s) }",
         "its bias is not one number for each channel"),
    ],
)  # fmt: skip
def test_refusals(text: str, reason: str) -> None:
    places, skipped = bias_places(build(text, w=W, b=B, s=np.float32(2)), {"n"})
    assert places == []
    assert [item.reason for item in skipped] == [reason]
