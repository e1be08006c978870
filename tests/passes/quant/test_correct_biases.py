"""Corrections move the output by exactly what the plan says; nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.quant.correct_biases import CorrectBiases
from qcompiler.pipeline import Skip
from qcompiler.plan import QuantPlan
from qcompiler.session import run_all
from tests.building import build
from tests.equivalence import ops_of, random_feeds

RANDOM = np.random.default_rng(5)
W = RANDOM.standard_normal((4, 6)).astype(np.float32)
K = RANDOM.standard_normal((6, 4, 3, 3)).astype(np.float32)
B = RANDOM.standard_normal(6).astype(np.float32)
MOVE = np.array([0.5, -1, 0, 2, 0.25, -4], np.float32)  # exact in binary, so that sums round alike


@pytest.mark.parametrize("body", [
    "[n] y = Gemm(x, w, b)", "[n] y = Gemm(x, w)", "[n] h = MatMul(x, w) y = Add(h, b)",
    "[n] y = Conv<pads = [1, 1, 1, 1]>(x, k, b)", "[n] y = Conv(x, k)",
])  # fmt: skip
def test_the_output_moves_by_the_correction(body: str) -> None:
    conv = "Conv" in body
    shapes = ("[1, 4, 5, 5]", "[1, 6, H, V]") if conv else ("[N, 4]", "[N, 6]")
    model = build(f"m (float{shapes[0]} x) => (float{shapes[1]} y) {{ {body} }}", w=W, k=K, b=B)
    before, ops = model.clone(), ops_of(model)
    outcome = CorrectBiases(QuantPlan(biases={"n": MOVE.tolist()})).run(model)
    assert outcome.matched == ("n",)
    assert ops_of(model) == ops
    assert "b" not in model.graph.initializers
    feed = random_feeds(model, {"N": 3})
    old, new = (run_all(one, [feed])[0]["y"] for one in (before, model))
    moved = MOVE.reshape(6, 1, 1) if conv else MOVE
    np.testing.assert_allclose(new - old, np.broadcast_to(moved, old.shape), atol=1e-5)


def test_a_shared_bias_stays_what_it_is_for_others() -> None:
    text = "m (float[N, 4] x) => (float[N, 6] y, float[N, 6] z) { [n] y = Gemm(x, w, b) [o] z = Gemm(x, w, b) }"
    model = build(text, w=W, b=B)
    before = model.clone()
    CorrectBiases(QuantPlan(biases={"n": MOVE.tolist()})).run(model)
    np.testing.assert_array_equal(model.graph.initializers["b"].const_value.numpy(), B)  # type: ignore[union-attr]
    feed = random_feeds(model, {"N": 3})
    old, new = (run_all(one, [feed])[0] for one in (before, model))
    np.testing.assert_array_equal(old["z"], new["z"])
    np.testing.assert_allclose(new["y"] - old["y"], np.broadcast_to(MOVE, old["y"].shape), atol=1e-5)


def test_near_misses_are_left_alone() -> None:
    text = "m (float[N, 4] x) => (float[N, 6] y, float[N, 6] z) { [n] y = Gemm(x, w, b) [o] z = MatMul(x, w) }"
    model = build(text, w=W, b=B)
    outcome = CorrectBiases(QuantPlan(biases={"n": [1.0], "o": MOVE.tolist()})).run(model)
    assert outcome.matched == ()
    assert not outcome.modified
    assert set(outcome.skipped) == {
        Skip("n", "1 corrections for 6 channels"), Skip("o", "a MatMul without a bias behind it"),
    }  # fmt: skip


def test_without_corrections_nothing_happens() -> None:
    model = build("m (float[N, 4] x) => (float[N, 6] y) { [n] y = Gemm(x, w, b) }", w=W, b=B)
    assert not CorrectBiases(QuantPlan()).run(model).modified
    assert not CorrectBiases().meant_for(model)
