"""One session for all measurements: switches off is the float model, switches on the Q/DQ graph, scales are free."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.numerics import sqnr, weight_scale
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.switched_model import SwitchedModel, decibels, output_noise
from qcompiler.plan import QuantPlan
from qcompiler.scheme import QuantScheme, TensorQuant, int8_weight
from qcompiler.session import Arrays, run_all
from tests.building import build, per_tensor
from tests.equivalence import random_feeds

RANDOM = np.random.default_rng(0)
WEIGHTS: dict[str, Any] = {
    "w": RANDOM.standard_normal((8, 8)).astype(np.float32),
    "v": RANDOM.standard_normal((8, 4)).astype(np.float32),
}
TEXT = """m (float[N, 8] x) => (float[N, 4] y, float[N, 8] s, int64[N] k) {
    [first] h = MatMul(x, w) i = Tanh(h) [second] j = Gemm(i, w) t = Transpose(i) p = MatMul(j, t)
    [scores] s = MatMul(p, i) [head] y = MatMul(j, v) k = ArgMax<axis = 1, keepdims = 0>(y) }"""


def model() -> ir.Model:
    return build(TEXT, **WEIGHTS)


def plan_of(**scales: float) -> QuantPlan:
    wanted = {"x": 0.02, "i": 0.008, "j": 0.05, "p": 0.1} | scales
    w, v = (TensorQuant(int8_weight(1), weight_scale(WEIGHTS[name], int8_weight(1))) for name in "wv")
    return QuantPlan(
        tensors={name: per_tensor(scale) for name, scale in wanted.items()},
        weights={"first": {1: w}, "second": {1: w}, "head": {1: v}},
        nodes={"first": (0,), "second": (0,), "scores": (0, 1), "head": (0,)},
    )


FEEDS = [random_feeds(model(), {"N": 8}, seed) for seed in (0, 1)]


def qdq(plan: QuantPlan, feed: int = 0) -> Arrays:
    copy = model()
    InsertQdq(plan).run(copy)
    return run_all(copy, [FEEDS[feed]], optimize=False)[0]


def close(found: Arrays, wanted: Arrays) -> None:
    for name, array in wanted.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(found[name], array, rtol=0, atol=4e-6 * np.abs(array).max())
        else:
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("bits", [4, 6])
def test_narrow_grids_clip_as_the_emitted_graph_does(bits: int) -> None:
    plan = plan_of()
    plan.tensors = {name: TensorQuant(QuantScheme(bits=bits), quant.scale) for name, quant in plan.tensors.items()}
    switched = SwitchedModel(model(), plan, FEEDS)
    close(switched._run(FEEDS[0], switched.nodes, {}), qdq(plan))
    other = {name: float(quant.scale) * 3 for name, quant in plan.tensors.items()}
    scaled = plan_of()
    scaled.tensors = {
        name: TensorQuant(QuantScheme(bits=bits), np.asarray(other[name], np.float32)) for name in plan.tensors
    }
    close(switched._run(FEEDS[0], switched.nodes, other), qdq(scaled))
    assert switched.noise(switched.nodes) > 10 * SwitchedModel(model(), plan_of(), FEEDS).noise(switched.nodes)


def test_all_off_is_the_float_model_and_all_on_the_qdq_graph() -> None:
    switched = SwitchedModel(model(), plan_of(), FEEDS)
    assert sorted(switched.nodes) == ["first", "head", "scores", "second"]
    float_outputs = run_all(model(), FEEDS[:1])[0]
    close(switched._run(FEEDS[0], (), {}), float_outputs)
    close(switched._run(FEEDS[0], switched.nodes, {}), qdq(plan_of()))
    assert switched.noise(()) == 0.0
    # a product of 8 codes at full range has about 40 dB; that far from float, and no further
    assert 20 < sqnr(float_outputs["y"], qdq(plan_of())["y"]) < 60


@pytest.mark.parametrize("names", [("first",), ("second", "head"), ("scores",)])
def test_some_on_is_the_graph_of_that_plan(names: tuple[str, ...]) -> None:
    plan = plan_of()
    switched = SwitchedModel(model(), plan, FEEDS)
    partly = QuantPlan(
        plan.tensors, {k: w for k, w in plan.weights.items() if k in names}, {k: plan.nodes[k] for k in names}
    )
    close(switched._run(FEEDS[0], names, {}), qdq(partly))


def test_scales_of_a_run_equal_a_plan_that_has_them() -> None:
    switched = SwitchedModel(model(), plan_of(), FEEDS)
    close(switched._run(FEEDS[0], switched.nodes, {"x": 0.05, "i": 0.004}), qdq(plan_of(x=0.05, i=0.004)))
    again = SwitchedModel(model(), plan_of(x=0.05, i=0.004), FEEDS)
    wanted = again.noise(again.nodes)
    assert switched.noise(switched.nodes, {"x": 0.05, "i": 0.004}) == pytest.approx(wanted, rel=1e-4)
    assert switched.noise(switched.nodes) == pytest.approx(
        SwitchedModel(model(), plan_of(), FEEDS).noise(again.nodes), rel=1e-6
    )  # the override lasted one run


def test_noise_is_the_geometric_mean_over_float_outputs_and_samples() -> None:
    switched = SwitchedModel(model(), plan_of(), FEEDS)
    ratios = []
    for index, float_outputs in enumerate(run_all(model(), FEEDS)):
        outputs = qdq(plan_of(), index)
        ratios += [10 ** (-sqnr(float_outputs[name], outputs[name]) / 10) for name in ("y", "s")]
    assert switched.noise(switched.nodes) == pytest.approx(float(np.exp(np.mean(np.log(ratios)))), rel=1e-3)
    assert decibels(0.01) == pytest.approx(20)
    assert decibels(0) == math.inf


def test_the_model_and_the_plan_stay_as_they_were() -> None:
    given, plan = model(), plan_of()
    text, json = ir.to_onnx_text(given), plan.to_json()
    SwitchedModel(given, plan, FEEDS[:1])
    assert ir.to_onnx_text(given) == text
    assert plan.to_json() == json


def test_costs_are_multiply_adds() -> None:
    kernel = np.ones((6, 2, 3, 3), np.float32)
    text = """m (float[1, 4, 8, 8] x) => (float[1, 6, 6, 3] y) {
        [conv] c = Conv<group = 2>(x, k) [product] y = MatMul(c, w) }"""
    net = build(text, k=kernel, w=np.ones((6, 3), np.float32))
    plan = QuantPlan({"x": per_tensor(0.1), "c": per_tensor(0.1)}, {}, {"conv": (0,), "product": (0,)})
    switched = SwitchedModel(net, plan, [random_feeds(net)])
    assert switched.costs == {"conv": 6 * 6 * 6 * 2 * 9, "product": 6 * 6 * 3 * 6}


def test_an_output_whose_shape_follows_the_data() -> None:
    text = (
        "m (float[N, 8] x) => (int64[2, M] z, float[?, ?] g) { [n] h = MatMul(x, w) z = NonZero(h) g = Gather(h, i) }"
    )
    net = build(text, w=np.eye(8, dtype=np.float32), i=np.array([0]))
    plan = QuantPlan({"x": per_tensor(1.0)}, {}, {"n": (0,)})
    assert SwitchedModel(net, plan, [random_feeds(net)]).noise(("n",)) > 0


def test_plans_of_other_schemes_do_not_confuse_it() -> None:
    plan = plan_of()
    renamed = replace(per_tensor(0.02), zero_point=np.zeros((), np.int8))
    plan.tensors["x"] = renamed
    switched = SwitchedModel(model(), plan, FEEDS)
    close(switched._run(FEEDS[0], switched.nodes, {}), qdq(plan_of()))


def test_states_together_count_as_a_quarter() -> None:
    wanted: Any = {"logits": np.array([1.0, 1.0]), **{f"present.{i}.key": np.array([1.0, 0.0]) for i in range(4)}}
    found = {**wanted, "logits": np.array([1.0, 1.2]), "present.3.key": np.array([0.8, 0.0])}
    states = [name for name in wanted if name != "logits"]
    assert output_noise(wanted, found, states) == pytest.approx(0.02**0.75 * 0.01**0.25)  # 0.04 of one of four states
    only = {name: wanted[name] for name in states}
    assert output_noise(only, only, states) == 0
    assert output_noise(wanted, wanted, states) == 0
    assert output_noise(wanted, found) < 1e-7, "without it exact states outvote the logits"
