"""Activations with any zero point run in the same integer kernels, and give the same numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qcompiler.backends.onnxruntime.lower_convs import LowerConvs
from qcompiler.backends.onnxruntime.lower_products import LowerProducts
from qcompiler.backends.onnxruntime.unsigned_activations import UnsignedActivations
from qcompiler.passes.cleanup.drop_unused import DropUnused
from tests.equivalence import ops_of
from tests.quantizing import EVERYTHING, quantized, same

RANDOM = np.random.default_rng(6)
W: dict[str, Any] = {
    "k": RANDOM.standard_normal((8, 8, 3, 3)).astype(np.float32),
    "p": RANDOM.standard_normal((8, 8, 1, 1)).astype(np.float32),
    "b": RANDOM.standard_normal(8).astype(np.float32), "w": RANDOM.standard_normal((8, 8)).astype(np.float32),
}  # fmt: skip
NET = """m (float[1, 8, 9, 9] x) => (float[1, 8, A, C] y) { [n] c = Conv<pads = [1, 1, 1, 1]>(x, k, b) r = Relu(c)
    [o] y = Conv<pads = [1, 1, 1, 1]>(r, k, b) }"""
PRODUCTS = {
    "MatMul": "[n] y = MatMul(g, w)", "MatMul and bias": "[n] h = MatMul(g, w) y = Add(h, b)",
    "Gemm": "[n] y = Gemm(g, w, b)", "both computed": "t = Transpose(x) [n] y = MatMul(g, t)",
}  # fmt: skip


@pytest.mark.parametrize("unsigned", [True, False], ids=["uint8", "int8"])
@pytest.mark.parametrize(("zero", "clips"), [(-128, 0), (-100, 1), (0, 1)])
def test_padded_convs_and_a_relu_between(unsigned: bool, zero: int, clips: int) -> None:
    model, feed = quantized(NET, zero_points={"r": zero}, clip=0.8, **W)
    lowered = model.clone()
    if unsigned:
        assert UnsignedActivations().run(lowered).skipped == ()
    outcome = LowerConvs(saturating=unsigned).run(lowered)
    DropUnused().run(lowered)
    assert len(outcome.matched) == 2
    assert ops_of(lowered).count("Clip") == clips, "at the lowest code saturation is the Relu"
    assert "Relu" not in ops_of(lowered)
    # codes round on another border where float sums differ in the last bit: a step of the input times a weight
    same(lowered, model, feed, bound=0.02)


@pytest.mark.parametrize("reader", PRODUCTS)
def test_products(reader: str) -> None:
    text = f"m (float[8, 8] x) => (float[8, 8] y) {{ g = Softplus(x) {PRODUCTS[reader]} }}"
    model, feed = quantized(text, zero_points={"g": -120}, **W)
    lowered = model.clone()
    assert UnsignedActivations().run(lowered).skipped == ()
    assert LowerProducts().run(lowered).matched == ("n",)
    DropUnused().run(lowered)
    same(lowered, model, feed)


def test_a_channel_wise_output_behind_a_zero_point() -> None:
    """QLinearConv writes codes by channel around the middle of the container, whatever its input's zero point is."""
    text = "m (float[1, 8, 9, 9] x) => (float[1, 8, A, C] y) { g = Softplus(x) [n] c = Conv(g, p, b) y = Neg(c) }"
    model, feed = quantized(text, zero_points={"g": -128}, placement=replace(EVERYTHING, conv_outputs=True), **W)
    lowered = model.clone()
    UnsignedActivations().run(lowered)
    LowerConvs().run(lowered)
    DropUnused().run(lowered)
    same(lowered, model, feed, bound=0.02)
