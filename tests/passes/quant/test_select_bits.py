"""Bits by tensor and by weight, and what only has its weight quantized."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.precision import Precision, Precisions
from qcompiler.target import Placement
from tests.building import build

PRECISIONS = Precisions(Precision(4, 4), {"a": Precision(8, 6)})


def test_a_tensor_has_the_widest_grid_that_its_readers_ask_for() -> None:
    text = """m (float[N, 4] x) => (float[N, 4] y, float[N, 4] k, float[4, N] l) {
        [a] y = MatMul(x, w) t = Transpose(x) [b] k = MatMul(x, w) [c] h = MatMul(w, t) [d] l = MatMul(w, h) }"""
    found = select_sites(build(text, w=np.eye(4, dtype=np.float32)), Placement(), (), PRECISIONS)
    assert found.bits == {"x": 6, "h": 4}
    assert found.weight_bits == {"a": 8, "b": 4, "c": 4, "d": 4}
    assert (found.steps("x"), found.steps("h")) == (31, 7)


def test_members_of_a_concat_share_their_width() -> None:
    text = """m (float[N, 4] x, float[N, 4] z) => (float[N, 4] y, float[N, 4] k) {
        [a] y = MatMul(x, w) c = Concat<axis = 0>(x, z) [b] k = MatMul(c, w) }"""
    found = select_sites(build(text, w=np.eye(4, dtype=np.float32)), Placement(), (), PRECISIONS)
    assert found.groups == [("c", "x")]
    assert found.bits == {"x": 6, "c": 6}


def test_outputs_of_convs_are_quantized_at_eight_bits_only() -> None:
    text = "m (float[1, 4, 8, 8] x) => (float[?, ?, ?, ?] y) { [n] c = Conv(x, k) y = Sigmoid(c) }"
    model = build(text, k=np.ones((4, 4, 3, 3), np.float32))
    placement = Placement(conv_outputs=True)
    assert select_sites(model, placement).outputs == {"n": "c"}
    assert select_sites(model, placement, (), Precisions(Precision(4, 8))).outputs == {"n": "c"}
    assert select_sites(model, placement, (), Precisions(Precision(8, 6))).outputs == {}


WEIGHT_ONLY = Precisions(Precision(4, 16))
BLOCKS = Placement(int4_blocks=(32, 16))


@pytest.mark.parametrize(
    ("text", "shape", "axis", "size"),
    [
        ("float[N, 64] x) => (float[N, 8] y) { [n] y = MatMul(x, w) }", (64, 8), 0, 32),
        ("float[N, 48] x) => (float[N, 8] y) { [n] y = MatMul(x, w) }", (48, 8), 0, 16),
        ("float[N, 64] x) => (float[N, 8] y) { [n] y = Gemm<transB = 1>(x, w) }", (8, 64), 1, 32),
    ],
)
def test_weight_only_takes_the_best_block_that_divides(text: str, shape: tuple[int, ...], axis: int, size: int) -> None:
    found = select_sites(build(f"m ({text}", w=np.ones(shape, np.float32)), BLOCKS, (), WEIGHT_ONLY)
    assert (found.activations, found.sources) == ({"n": ()}, {})
    assert (found.weights, found.blocks) == ({"n": {1: axis}}, {"n": size})


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        ("float[N, 40] x) => (float[N, 8] y) { [n] y = MatMul(x, w) }", (40, 8), "40 rows are no multiple of a block"),
        ("float[8, N] x) => (float[64, N] y) { [n] y = MatMul(w, x) }", (64, 8), "one matrix behind an activation"),
        ("float[2, N, 32] x) => (float[2, N, 8] y) { [n] y = MatMul(x, w) }", (2, 32, 8), "one matrix behind"),
        ("float[1, 32, 8, 8] x) => (float[?, ?, ?, ?] y) { [n] y = Conv(x, w) }", (8, 32, 1, 1), "one matrix behind"),
        ("float[N, 8] x, float[8, N] z) => (float[N, N] y) { [n] y = MatMul(x, z) }", (1, 1), "both inputs are"),
    ],
)
def test_what_weight_only_leaves_float(text: str, shape: tuple[int, ...], reason: str) -> None:
    found = select_sites(build(f"m ({text}", w=np.ones(shape, np.float32)), BLOCKS, (), WEIGHT_ONLY)
    assert found.activations == {}
    assert reason in found.floats["n"]
