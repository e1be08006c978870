"""The whole analysis on small models: what is planted is found, what does not depend on calibration shows exactly 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.analysis.analyze import analyze_model
from qcompiler.analysis.document import analysis_document
from qcompiler.analysis.options import AnalysisOptions
from qcompiler.analysis.result import Analysis
from qcompiler.analysis.set_spread import set_spread
from qcompiler.analysis.verdicts import enough_samples, verdicts
from qcompiler.errors import CalibrationError, UnsupportedError, UsageError
from qcompiler.numerics import sqnr
from qcompiler.options import CompileOptions
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.registry import find_target
from qcompiler.session import Feeds, run_all
from tests.building import build
from tests.small_models import small_cnn, transformer_block

BASE = CompileOptions(threads=1)


def block_samples(count: int, seed: int, scale: float = 1.0, spike: float = 1.0) -> list[Feeds]:
    """Sequences of twelve; `spike` multiplies the first feature at every third token."""
    random = np.random.default_rng(seed)
    found: list[Feeds] = []
    for _ in range(count):
        x = (random.standard_normal((1, 12, 32)) * scale).astype(np.float32)
        x[:, ::3, 0] *= spike
        found.append({"x": x})
    return found


def linear() -> ir.Model:
    """One product with a heavy weight on feature 0."""
    weight = np.random.default_rng(4).standard_normal((32, 16)).astype(np.float32)
    return build("m (float[N, 12, 32] x) => (float[N, 12, 16] y) { [product] y = MatMul(x, w) }", w=weight)


@pytest.fixture(scope="module")
def planted() -> Analysis:
    """A channel that fires in the first set and is silent in the other."""
    sets = {
        "with": block_samples(20, 0, spike=40),
        "again": block_samples(20, 1, spike=40),
        "without": block_samples(20, 2),
    }
    return analyze_model(linear(), AnalysisOptions(sets, BASE, sizes=(4, 12), seeds=5))


def test_a_set_without_the_outlier_matters(planted: Analysis) -> None:
    for rule in planted.rules:
        assert rule.spread_of_sets.matters, rule.method
        means = rule.decibels.mean(axis=(1, 2))
        assert means[2] < means[0] - 3
        assert abs(means[1] - means[0]) < 2
    assert planted.verdicts[0].answer.startswith("the calibration set matters")
    assert "without is lowest" in planted.verdicts[0].because


def test_a_rule_that_another_set_serves_better_is_said_not_to_suit(planted: Analysis) -> None:
    best = planted.rules[0]
    swapped = replace(best, decibels=best.decibels[::-1], method="mse")
    found = verdicts(replace(planted, rules=(replace(best, decibels=best.decibels + 50), swapped)))
    assert [item.topic for item in found] == ["sets, minmax", "sets, mse", "samples", "effort"]
    assert found[0].answer == "the calibration set matters: calibrate on data like with"
    assert found[1].answer == "the calibration set matters, and the rule does not suit with"


def test_two_sets_of_one_kind_do_not_matter() -> None:
    sets = {name: block_samples(20, seed, spike=40) for seed, name in enumerate(("a", "b", "c"))}
    found = analyze_model(linear(), AnalysisOptions(sets, BASE, sizes=(4, 12), seeds=5, methods=("percentile",)))
    assert not found.rules[0].spread_of_sets.matters
    assert found.verdicts[0].answer == "what the calibration set contains does not matter"
    assert "S = " in found.verdicts[0].because


def test_outlier_channels_and_their_cost_are_found(planted: Analysis) -> None:
    item = planted.sets[0].tensors["x"]
    assert item.channels is not None
    assert item.channels.outliers == [0]
    assert item.layout.channel == 2
    assert planted.outliers is not None
    assert planted.outliers.tensors == ("x",)
    assert planted.outliers.lost > 3
    assert planted.verdicts[-1].topic == "effort"
    assert "x" not in [
        name for name, item in planted.sets[2].tensors.items() if item.channels and item.channels.outliers
    ]


def test_weight_only_quantization_does_not_depend_on_the_set() -> None:
    """Acceptance of the protocol: S = 0 exactly, while activations of the same sets give S above 0."""
    model, target = linear(), find_target("ort-cpu")
    sites = select_sites(model, target.placement)
    test = block_samples(4, 9, spike=40)
    reference = run_all(model, test)
    weights_only = np.zeros((3, 5, len(test)))
    for index, spike in enumerate((1, 10, 40)):
        for seed in range(5):
            peak = max(float(np.abs(feed["x"]).max()) for feed in block_samples(4, seed, spike=spike))
            plan = make_plan(model, target, sites, {"x": peak})
            quantized = model.clone()
            QuantizeWeights(plan).run(quantized)
            outputs = run_all(quantized, test)
            weights_only[index, seed] = [sqnr(a["y"], b["y"]) for a, b in zip(reference, outputs, strict=True)]
    assert 20 < weights_only.mean() < 80
    assert set_spread(weights_only).between == 0
    assert set_spread(weights_only).ratio == 0


def test_padding_changes_nothing() -> None:
    text = """m (int64[batch, seq] input_ids, int64[batch, seq] attention_mask) => (float[batch, seq, 4] y) {
      e = Gather(table, input_ids) [product] y = MatMul(e, w) }"""
    random = np.random.default_rng(7)
    table = random.standard_normal((50, 8)).astype(np.float32)
    table[0] = 1000  # what padding looks up
    model = build(text, table=table, w=random.standard_normal((8, 4)).astype(np.float32))
    plain, padded = [], []
    for _ in range(8):
        ids = random.integers(1, 50, (1, 6))
        plain.append({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        tail = np.zeros((1, 3), np.int64)
        padded.append({"input_ids": np.concatenate([ids, tail], 1),
                       "attention_mask": np.concatenate([np.ones_like(ids), tail], 1)})  # fmt: skip
    found = [
        analyze_model(model, AnalysisOptions({"s": data}, BASE, sizes=(4,), seeds=2, methods=("minmax",)))
        for data in (plain, padded)
    ]
    first, second = ({**analysis_document(item), "sets": {}} for item in found)
    assert first == second
    one, other = (item.sets[0].tensors["e"] for item in found)
    assert one.absmax == other.absmax < 1000
    assert one.elements == other.elements
    assert one.kurtosis == pytest.approx(other.kurtosis)


def test_a_transformer_and_a_cnn_go_through() -> None:
    random = np.random.default_rng(8)
    images: list[Feeds] = [{"x": random.standard_normal((2, 3, 16, 16)).astype(np.float32)} for _ in range(6)]
    for model, data in ((transformer_block(), block_samples(10, 0)), (small_cnn(), images)):
        found = analyze_model(model, AnalysisOptions({"s": data}, BASE, seeds=2))
        assert [item.topic for item in found.verdicts] == ["samples", "effort"]
        assert found.weights_only is not None
        assert 10 < found.weights_only < 80
        assert all(rule.mean > 10 for rule in found.rules)
        assert found.sets[0].samples == (8 if model.graph.name == "block" else 9)


def test_more_tensors_on_request() -> None:
    options = AnalysisOptions({"s": block_samples(6, 0)}, BASE, seeds=2, tensors="^r1$")
    assert "r1" in analyze_model(transformer_block(), options).sets[0].tensors
    assert "r1" not in analyze_model(transformer_block(), replace(options, tensors="")).sets[0].tensors
    with pytest.raises(UsageError, match="matches no tensor"):
        analyze_model(transformer_block(), replace(options, tensors="nowhere"))
    with pytest.raises(UsageError, match="is not a regular expression"):
        analyze_model(transformer_block(), replace(options, tensors="("))


def test_faults_are_named() -> None:
    with pytest.raises(CalibrationError, match=r"no calibration data.*--calib synthetic"):
        analyze_model(linear(), AnalysisOptions({}))
    with pytest.raises(UsageError, match="400 samples are asked for"):
        analyze_model(linear(), AnalysisOptions({"s": block_samples(6, 0)}, BASE, sizes=(400,)))
    nothing = build("m (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }")
    with pytest.raises(UnsupportedError, match="nothing here would be quantized"):
        analyze_model(nothing, AnalysisOptions({"s": [{"x": np.ones((1, 4), np.float32)}] * 4}, BASE))


def test_without_a_float_output_there_is_no_fidelity_and_that_is_said() -> None:
    nodes = "[product] h = MatMul(x, w) y = ArgMax<axis = 2, keepdims = 0>(h)"
    text = f"m (float[N, 12, 32] x) => (int64[N, 12] y) {{ {nodes} }}"
    model = build(text, w=np.eye(32, dtype=np.float32))
    found = analyze_model(model, AnalysisOptions({"s": block_samples(6, 0)}, BASE, seeds=2))
    assert [item.code for item in found.diagnostics] == ["QC213"]
    assert (found.rules, found.verdicts) == ((), ())
    assert analysis_document(found)["fidelity"]["rules"] == {}
    assert found.sets[0].tensors["x"].absmax > 0


def test_synthetic_inputs_are_flagged() -> None:
    found = analyze_model(linear(), AnalysisOptions({"made": "synthetic"}, BASE, seeds=2, methods=("minmax",)))
    assert [item.code for item in found.diagnostics] == ["QC202"]


def test_enough_samples_is_the_size_from_which_nothing_changes() -> None:
    found = analyze_model(linear(), AnalysisOptions({"s": block_samples(40, 0)}, BASE, sizes=(1, 8, 30), seeds=4))
    rule = found.rules[0]
    steady = dict.fromkeys((1, 8, 30), rule.sweep[30])
    assert enough_samples(replace(rule, sweep=steady))[0] == 1
    assert enough_samples(replace(rule, sweep={**steady, 1: steady[30] - 20}))[0] == 8
    assert enough_samples(replace(rule, sweep={**steady, 8: steady[30] - 20}))[0] == 30
