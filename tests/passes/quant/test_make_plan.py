"""Thresholds to scales, weights to scales, groups, and nodes that calibration never reached."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.targets import ORT_CPU
from qcompiler.numerics import SMALLEST_SCALE, pairs_fit, quantize, weight_scale
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.scheme import PerAxis, PerTensor, int8_weight
from qcompiler.target import Placement, Target
from tests.building import build

PLAIN = Target("plain", "", 21, "", placement=Placement())
PAIRS = replace(PLAIN, placement=Placement(weights_pair_safe=True))
W = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
CHAIN = (
    """m (float[N, 4] x) => (float[N, 4] y) { [a] h = MatMul(x, w) [r] i = Relu(h) [b] y = Gemm<transB = 1>(i, w) }"""
)


def plan_of(model: ir.Model, thresholds: dict[str, float], target: Target = PLAIN, **options: Any) -> Any:
    return make_plan(model, target, select_sites(model, target.placement), thresholds, **options)


def test_scales() -> None:
    plan = plan_of(build(CHAIN, w=W), {"x": 2.54, "i": 0.0})
    assert float(plan.tensors["x"].scale) == np.float32(2.54 / 127)
    assert float(plan.tensors["i"].scale) == SMALLEST_SCALE  # a dead activation
    assert plan.tensors["x"].scale.shape == ()
    assert plan.nodes == {"a": (0,), "b": (0,)}
    np.testing.assert_array_equal(plan.weights["a"][1].scale, weight_scale(W, int8_weight(1)))
    np.testing.assert_array_equal(plan.weights["b"][1].scale, weight_scale(W, int8_weight(0)))
    assert (plan.weights["a"][1].axis, plan.weights["b"][1].axis) == (1, 0)


def test_a_node_whose_input_was_never_seen_stays_float() -> None:
    plan = plan_of(build(CHAIN, w=W), {"x": 1.0})
    assert plan.nodes == {"a": (0,)}
    assert list(plan.weights) == ["a"]
    assert plan.floats == {"b": "calibration saw no values of i"}
    assert list(plan.tensors) == ["x"]


def test_layout_operators_pass_the_range_of_their_source_on() -> None:
    text = "m (float[2, 12] x) => (float[?, ?] y) { r = Reshape(x, s) t = Transpose(r) [n] y = MatMul(t, w) }"
    plan = plan_of(build(text, s=np.array([4, 6]), w=W), {"x": 1.27})
    assert float(plan.tensors["t"].scale) == pytest.approx(0.01)


def test_groups_share_their_largest_scale() -> None:
    text = """m (float[N, 2] p, float[N, 2] q) => (float[N, 6] y, float[N, 3] u, float[N, 3] v) {
        c = Concat<axis = 1>(p, q) [n] y = MatMul(c, w) [m1] u = MatMul(p, k) [m2] v = MatMul(q, k) }"""
    model = build(text, w=W, k=W[:2, :3])
    plan = plan_of(model, {"c": 2.0, "p": 1.0, "q": 3.0})
    assert [float(plan.tensors[name].scale) for name in "cpq"] == [float(np.float32(3 / 127))] * 3
    assert plan.groups == [("c", "p", "q")]
    partly = plan_of(model, {"c": 2.0, "q": 3.0})
    assert float(partly.tensors["c"].scale) == np.float32(3 / 127)
    assert partly.groups == []
    assert "m1" in partly.floats


def test_weights_of_an_earlier_plan_are_taken_over() -> None:
    model = build(CHAIN, w=W)
    first = plan_of(model, {"x": 1.0, "i": 1.0})
    second = plan_of(model, {"x": 2.0, "i": 2.0}, weights=first.weights)
    assert second.weights["a"][1] is first.weights["a"][1]
    assert float(second.tensors["x"].scale) == 2 * float(first.tensors["x"].scale)


@pytest.mark.parametrize(("name", "axis", "pair"), [("a", 1, 0), ("b", 0, 1)])
def test_pair_safe_weights(name: str, axis: int, pair: int) -> None:
    weight = np.full((4, 6), 1.0, np.float32)  # two neighbours of 127 each would overflow
    safe, free = (plan_of(build(CHAIN, w=weight), {"x": 1.0, "i": 1.0}, target) for target in (PAIRS, PLAIN))
    assert pairs_fit(quantize(weight, safe.weights[name][1]), pair)
    assert not pairs_fit(quantize(weight, free.weights[name][1]), pair)
    assert safe.weights[name][1].scheme.granularity == PerAxis(axis)


@pytest.mark.parametrize(
    ("text", "shape", "index", "axis"),
    [
        ("m (float[N, 4] x) => (float[?, ?] y) { [n] y = MatMul(x, w) }", (4, 6), 1, 0),
        ("m (float[3, 5, 4] x) => (float[?, ?, ?] y) { [n] y = MatMul(x, w) }", (3, 4, 6), 1, 1),
        ("m (float[4, 5] x) => (float[?, ?] y) { [n] y = MatMul(w, x) }", (6, 4), 0, 1),
        ("m (float[N, 4] x) => (float[?, ?] y) { [n] y = Gemm(x, w) }", (4, 6), 1, 0),
        ("m (float[N, 4] x) => (float[?, ?] y) { [n] y = Gemm<transB = 1>(x, w) }", (6, 4), 1, 1),
    ],
)
def test_pairs_are_bounded_along_the_axis_that_is_summed(
    text: str, shape: tuple[int, ...], index: int, axis: int
) -> None:
    weight = np.ones(shape, np.float32)
    assert shape[axis] == 4  # the one that all inputs here share
    plan = plan_of(build(text, w=weight), {"x": 1.0}, PAIRS)
    codes = quantize(weight, plan.weights["n"][index])
    assert pairs_fit(codes, axis)
    assert np.abs(codes).max() >= 63


def test_stacks_of_matrices_have_one_scale() -> None:
    text = "m (float[3, 5, 4] x) => (float[?, ?, ?] y) { [n] y = MatMul(x, w) }"
    plan = plan_of(build(text, w=np.ones((3, 4, 6), np.float32)), {"x": 1.0}, ORT_CPU)
    assert plan.weights["n"][1].scheme.granularity == PerTensor()
    assert plan.weights["n"][1].scale.shape == ()
