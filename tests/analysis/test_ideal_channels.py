"""Evened channels keep the float function, and cure what outlier channels do."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.analysis.ideal_channels import with_ideal_channels
from qcompiler.session import run_all
from tests.building import build
from tests.equivalence import random_feeds
from tests.small_models import block_batches, transformer_block


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("m (float[N, 5, 6] x) => (float[N, 5, 4] y) { y = MatMul(x, w) }", {"w": (6, 4)}),
        ("m (float[N, 6] x) => (float[N, 4] y) { y = Gemm(x, w) }", {"w": (6, 4)}),
        ("m (float[N, 6] x) => (float[N, 4] y) { y = Gemm<transB = 1>(x, w) }", {"w": (4, 6)}),
        ("m (float[N, 6, 5, 5] x) => (float[N, 4, 3, 3] y) { y = Conv(x, w) }", {"w": (4, 6, 3, 3)}),
    ],
)
def test_the_float_function_stays(text: str, shapes: dict[str, tuple[int, ...]]) -> None:
    random = np.random.default_rng(5)
    model = build(text, w=random.standard_normal(shapes["w"]).astype(np.float32))
    even, made = with_ideal_channels(model, {"x": np.array([40, 1, 2, 0.5, 3, 0.0])}, {"x": 20.0})
    assert list(made) == ["x"]
    assert all(value.uses() for value in even.graph.initializers.values())
    feeds = random_feeds(model)
    before, after, divided = (
        run_all(item, [feeds], extra)[0] for item, extra in ((model, ()), (even, ()), (even, made.values()))
    )
    np.testing.assert_allclose(after["y"], before["y"], rtol=2e-5, atol=2e-5)
    ratio = np.take(divided[made["x"]], 3, axis=-1 if "MatMul" in text else 1) / np.take(
        feeds["x"], 3, axis=-1 if "MatMul" in text else 1
    )
    np.testing.assert_allclose(ratio, 40, rtol=1e-5)  # t / absmax of channel 3


def test_readers_without_a_weight_keep_the_undivided_tensor() -> None:
    model = transformer_block()
    even, made = with_ideal_channels(model, {"n": np.linspace(1, 30, 32), "p": np.ones(12)}, {"n": 10.0, "p": 1.0})
    assert list(made) == ["n"]  # p is read by a product only
    batch = block_batches(1)
    np.testing.assert_allclose(run_all(even, batch)[0]["y"], run_all(model, batch)[0]["y"], rtol=1e-3, atol=1e-4)


def test_grouped_convolutions_are_left_alone() -> None:
    text = "m (float[N, 6, 5, 5] x) => (float[N, 6, 3, 3] y) { y = Conv<group = 6>(x, w) }"
    model = build(text, w=np.ones((6, 1, 3, 3), np.float32))
    assert with_ideal_channels(model, {"x": np.ones(6)}, {"x": 1.0})[1] == {}
