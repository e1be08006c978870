"""What measurement decides: clipping rules, and which nodes stay float within their share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.runner import calibrate
from qcompiler.calibration.table import CalibrationTable
from qcompiler.passes.quant.choose_ranges import POWERS, ChosenRule, candidates, choose_rule, refine_by_group
from qcompiler.passes.quant.keep_sensitive_float import keep_sensitive_float
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.node_groups import node_groups
from qcompiler.passes.quant.select_sites import Sites, select_sites
from qcompiler.passes.quant.switched_model import SwitchedModel, decibels
from qcompiler.passes.quant.tune_plan import Tuned, _local_noise, _outstanding, tune_plan
from qcompiler.plan import QuantPlan
from qcompiler.session import Feeds
from qcompiler.target import Target
from tests.building import build

PLAIN = Target("plain", "", 21, "")
RANDOM = np.random.default_rng(0)
TEXT = """m (float[N, 16] x) => (float[N, 16] y) {
    [a] h = MatMul(x, wa) i = Tanh(h) [b] j = MatMul(i, wb) k = Relu(j) [c] l = MatMul(k, wc) y = Add(l, i) }"""


def net(**changes: Any) -> ir.Model:
    weights: dict[str, Any] = {name: np.random.default_rng(index).standard_normal((16, 16)).astype(np.float32) / 4
               for index, name in enumerate(("wa", "wb", "wc"))}  # fmt: skip
    return build(TEXT, **{**weights, **changes})


def feeds_with_outliers(share: float = 0.01, size: float = 30.0) -> list[Feeds]:
    feeds: list[Feeds] = []
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        x = random.standard_normal((32, 16)).astype(np.float32)
        x[random.random(x.shape) < share] *= size
        feeds.append({"x": x})
    return feeds


FEEDS = feeds_with_outliers()


def calibrated(model: ir.Model, feeds: list[Feeds] | None = None) -> tuple[Sites, CalibrationTable]:
    sites = select_sites(model, PLAIN.placement)
    return sites, calibrate(model, sorted(set(sites.sources.values())), feeds or FEEDS)


def scales_of(plan: QuantPlan) -> dict[str, float]:
    return {tensor: float(quant.scale) for tensor, quant in plan.tensors.items()}


def ready(model: ir.Model) -> tuple[SwitchedModel, dict[float, dict[str, float]], QuantPlan]:
    """A switched model, scales by power, and the plan of power 2."""
    sites, table = calibrated(model)
    found = candidates(table.tensors, sites.steps)
    plans = {power: make_plan(model, PLAIN, sites, thresholds) for power, thresholds in found.items()}
    return SwitchedModel(model, plans[2.0], FEEDS), {p: scales_of(plan) for p, plan in plans.items()}, plans[2.0]


def test_candidates_clip_less_the_higher_the_power() -> None:
    _, table = calibrated(net())
    found = candidates(table.tensors, lambda _: 127)
    assert list(found) == list(POWERS)
    for name, histogram in table.tensors.items():
        ordered = [found[power][name] for power in sorted(POWERS)]
        step = 2**-0.125  # of the grid; only the power 2 is searched finer
        assert all(second >= step * first for first, second in pairwise(ordered))
        assert found[math.inf][name] == histogram.absmax


def test_powers_differ_on_an_outlier() -> None:
    values = np.append(np.random.default_rng(0).standard_normal(100_000), 8.0).astype(np.float32)
    found = candidates({"t": Histogram().observe(values)}, lambda _: 127)
    assert found[2.0]["t"] < 0.8 * found[math.inf]["t"] == 0.8 * 8.0
    assert found[2.0]["t"] < found[3.0]["t"]


def test_tensors_that_were_never_seen_have_no_candidate() -> None:
    assert candidates({"t": Histogram()}, lambda _: 127) == {power: {} for power in POWERS}


def test_the_rule_with_least_measured_noise_is_chosen() -> None:
    switched, scales, plan = ready(net())
    rule = choose_rule(switched, plan.nodes, scales)
    on_these = {p: switched.noise(plan.nodes, found, samples=rule.samples) for p, found in scales.items()}
    assert rule.noise[rule.power] == pytest.approx(on_these[rule.power])
    assert rule.noise[rule.power] == min(rule.noise.values())
    assert len(set(rule.noise.values())) > 1


class Recorded:
    """Measurements as they were written down: SQNR in dB by power and sample."""

    def __init__(self, table: dict[float, list[float]]) -> None:
        self.table = table
        self.samples = len(next(iter(table.values())))
        self.runs = 0

    def sample_noise(self, index: int, _nodes: object, power: float) -> float:
        self.runs += 1
        return float(10 ** (-self.table[power][index] / 10))


def chosen(table: dict[float, list[float]]) -> tuple[ChosenRule, int]:
    switched = Recorded(table)
    return choose_rule(switched, (), {power: power for power in table}), switched.runs  # type: ignore[arg-type, misc]


def test_steady_differences_take_few_samples() -> None:
    rng = np.random.default_rng(0)
    table = {p: list(level + rng.normal(0, 0.3, 24)) for p, level in ((1.5, 8.0), (2.0, 15.0), (3.0, 15.4))}
    rule, runs = chosen(table)
    assert (rule.power, rule.samples) == (3.0, 4)
    assert runs == 2 + 4 + 4, "the power that is 7 dB behind is given up after two samples"


def test_wild_differences_take_all_samples() -> None:
    rng = np.random.default_rng(3)
    table = {p: list(level + rng.normal(0, 10, 24)) for p, level in ((1.75, 32.0), (2.0, 30.0), (3.0, 22.0))}
    rule, _ = chosen(table)
    assert rule.samples == 24
    assert rule.power == max(table, key=lambda power: np.mean(table[power]))


def test_a_lead_on_the_first_samples_is_not_trusted_where_they_scatter() -> None:
    table = {1.5: [45.0, 30.0] + [20.0, 28.0] * 11, 2.0: [15.0, 33.0] + [31.0, 35.0] * 11}
    assert chosen(table)[0].power == 2.0


def test_one_sample_is_enough_to_choose_on() -> None:
    rule, _ = chosen({2.0: [10.0], 3.0: [12.0]})
    assert (rule.power, rule.samples) == (3.0, 1)


def test_groups_only_ever_improve_on_the_start() -> None:
    switched, scales, plan = ready(net())
    for start in POWERS:
        powers, noise = refine_by_group(switched, plan.nodes, scales, start, [{"x"}, {"i", "k"}])
        chosen = {tensor: scales[power][tensor] for tensor, power in powers.items()}
        assert noise == pytest.approx(switched.noise(plan.nodes, chosen))
        assert noise <= switched.noise(plan.nodes, scales[start])
        assert powers["i"] == powers["k"]


def test_a_scale_that_ruins_a_tensor_is_not_chosen_for_it() -> None:
    switched, scales, plan = ready(net())
    bad = {**scales[2.0], "k": 100.0}  # as if this rule failed on one tensor
    powers, _ = refine_by_group(switched, plan.nodes, {2.0: bad, 3.0: scales[3.0]}, 2.0, [{"x"}, {"i"}, {"k"}])
    assert powers["k"] == 3.0


GROUPS = (("a",), ("b",), ("c",))


def harmful(scales: Mapping[str, float]) -> dict[str, float]:
    return {**scales, "i": 0.7}  # tanh with codes -1, 0, 1: node b sees noise


def test_the_planted_harmful_node_is_the_one_kept_float() -> None:
    switched, scales, plan = ready(net())
    found = keep_sensitive_float(switched, [harmful(scales[2.0])], GROUPS, goal=60, share=0.34)
    assert list(found.reasons) == ["b"]
    assert "sensitive" in found.reasons["b"]
    assert found.before == pytest.approx(decibels(switched.noise(plan.nodes, harmful(scales[2.0]))))
    assert found.after == pytest.approx(decibels(switched.noise(("a", "c"), harmful(scales[2.0]))))
    assert found.after > found.before


def test_a_member_of_a_group_that_is_too_costly_is_found_too() -> None:
    switched, scales, _ = ready(net())
    found = keep_sensitive_float(switched, [harmful(scales[2.0])], [("a", "b", "c")], goal=60, share=0.34, split=True)
    assert list(found.reasons) == ["b"]


class Planned:
    """SQNR in dB by rule and float group, the same on each sample."""

    nodes = ("a", "b", "c")
    samples = 4
    costs = dict.fromkeys(nodes, 1)

    def sample_noise(self, _index: int, quantized: set[str], scales: Mapping[str, float]) -> float:
        level = {("hard", True): 16.0, ("hard", False): 15.0, ("soft", True): 15.0, ("soft", False): 27.0}
        return float(10 ** (-level["hard" if scales["t"] < 1 else "soft", "b" in quantized] / 10))


def test_a_group_is_found_that_gains_only_under_another_rule() -> None:
    """Hard clipping hides what the products of attention lose."""
    switched: Any = Planned()
    hard, soft = {"t": 0.5}, {"t": 1.0}
    assert not keep_sensitive_float(switched, [hard], GROUPS, goal=60, share=0.34).reasons
    found = keep_sensitive_float(switched, [hard, soft], GROUPS, goal=60, share=0.34)
    assert list(found.reasons) == ["b"]
    assert found.before == pytest.approx(16)
    assert found.after == pytest.approx(27)


@pytest.mark.parametrize(("goal", "share"), [(60.0, 0.0), (60.0, 0.3), (-60.0, 1.0)])
def test_nothing_is_kept_float_without_need_or_budget(goal: float, share: float) -> None:
    switched, scales, _ = ready(net())  # three nodes of equal cost: less than a third is not enough for any
    found = keep_sensitive_float(switched, [harmful(scales[2.0])], GROUPS, goal=goal, share=share)
    assert found.reasons == {}
    assert found.after == found.before


def test_share_bounds_the_multiply_adds() -> None:
    switched, scales, _ = ready(net())
    for share in (0.34, 0.67, 1.0):
        found = keep_sensitive_float(switched, [harmful(scales[2.0])], GROUPS, goal=math.inf, share=share)
        total = sum(switched.costs.values())
        assert sum(switched.costs[name] for name in found.reasons) <= share * total


def tuned(model: ir.Model, goal: float = 20.0, share: float = 0.0, feeds: list[Feeds] | None = None) -> Tuned:
    sites, table = calibrated(model)
    return tune_plan(model, PLAIN, sites, table.tensors, FEEDS if feeds is None else feeds, goal=goal, share=share)


def test_plan_is_at_least_as_good_as_every_single_rule() -> None:
    model = net()
    switched, scales, first = ready(model)
    plan = tuned(model).plan
    noise = SwitchedModel(model, plan, FEEDS).noise(plan.nodes)
    assert noise <= min(switched.noise(first.nodes, found) for found in scales.values()) * (1 + 1e-5)
    assert set(plan.nodes) == {"a", "b", "c"}
    assert plan.floats == {}


def test_nodes_kept_float_leave_the_plan_with_their_reason() -> None:
    outliers = np.eye(16, dtype=np.float32)
    outliers[:, 0] *= 3000  # one input of c is thousands of times larger than the others, and its weights tiny
    undo = np.eye(16, dtype=np.float32)
    undo[0] /= 3000
    model = net(wb=outliers, wc=undo)
    found = tuned(model, goal=60, share=0.4)
    assert "c" in found.plan.floats
    assert "sensitive" in found.plan.floats["c"]
    assert "c" not in found.plan.nodes
    assert "c" not in found.plan.weights
    assert tuned(model, goal=60, share=0.0).plan.floats == {}


def test_without_feeds_or_sites_there_is_nothing_to_measure() -> None:
    assert set(tuned(net(), feeds=[]).plan.nodes) == {"a", "b", "c"}
    empty = build("m (float[N, 16] x) => (float[N, 16] y) { y = Relu(x) }")
    assert tuned(empty).plan.nodes == {}


def test_measuring_twice_gives_the_same_plan() -> None:
    assert tuned(net(), 60, 0.4).plan.to_json() == tuned(net(), 60, 0.4).plan.to_json()


def test_groups_are_nodes_of_the_same_part() -> None:
    text = """m (float[N, 16] x) => (float[N, 16] y, float[N, 4] z) {
        [a] h = MatMul(x, w) i = Tanh(h) [b] j = MatMul(i, w) k = Tanh(j) [c] y = MatMul(k, w) [d] z = MatMul(k, v) }"""
    model = build(text, w=np.eye(16, dtype=np.float32), v=np.ones((16, 4), np.float32))
    assert node_groups(model, ("a", "b", "c", "d")) == (("a",), ("b", "c"), ("d",))
    assert node_groups(model, ("c", "d")) == (("c",), ("d",))


def test_nodes_far_louder_than_the_rest_are_candidates_by_themselves() -> None:
    loudness = {f"n{index}": 1.0 for index in range(20)} | {"a": 30.0, "b": 500.0, "c": 11.0, "d": 9.0}
    assert _outstanding(loudness) == [("b",), ("b", "a")]
    assert _outstanding(loudness | {"d": 12.0}) == [("b",), ("b", "a"), ("b", "a", "d", "c")]
    assert _outstanding({"n": 1.0}) == []


def test_a_few_massive_elements_do_not_make_a_tensor_quiet() -> None:
    """Their power is nearly all of it, and the step that holds them leaves nothing of what most tokens carry."""
    plain = RANDOM.standard_normal(100_000).astype(np.float32)
    massive = np.concatenate([plain, np.full(100, 2000.0, np.float32)])
    tensors = {"plain": Histogram().observe(plain), "massive": Histogram().observe(massive)}
    sites = Sites(sources={"plain": "plain", "massive": "massive"})
    noise = _local_noise(tensors, sites, {"plain": 4.0, "massive": 2000.0})
    assert noise["plain"] < 1e-3
    assert noise["massive"] == pytest.approx(1.0, abs=0.1)
