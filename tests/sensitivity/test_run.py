"""What is measured: the planted layer comes first, alone and cumulative are what a compile's graph does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qcompiler.calibration.feeds import slice_rows
from qcompiler.calibration.inputs import input_specs
from qcompiler.driver import compile_model
from qcompiler.errors import CalibrationError, UnsupportedError, UsageError
from qcompiler.numerics import sqnr
from qcompiler.options import CompileOptions
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.planned_weights import round_weights_in_place
from qcompiler.passes.quant.switched_model import SwitchedModel
from qcompiler.plan import QuantPlan
from qcompiler.planning import choose_plan
from qcompiler.sensitivity import run
from qcompiler.sensitivity.measure import measure_layers
from qcompiler.sensitivity.result import LayerSensitivity
from qcompiler.sensitivity.run import measure_sensitivity
from qcompiler.session import run_all
from tests.architectures import WIDTH, canonical, vit
from tests.building import build
from tests.passes.equalize.test_decide import planted as with_large_channels
from tests.sensitivity.planted import planted, samples
from tests.small_models import block_batches, transformer_block

SPECS = input_specs(transformer_block())


def measure(bits: str = "w4a4", **settings: Any) -> LayerSensitivity:
    options = {key: settings.pop(key) for key in ("exclude", "validate", "target") if key in settings}
    asked = CompileOptions(calib=samples(), bits=bits, threads=1, split_units="none", **options)
    return measure_sensitivity(planted(), asked, **settings)


def test_the_planted_layer_comes_first() -> None:
    found = measure()
    assert found.layers[0].name == "second"
    assert found.layers[0].alone.sqnr < min(layer.alone.sqnr for layer in found.layers[1:]) - 3
    assert [layer.alone.sqnr for layer in found.layers] == sorted(layer.alone.sqnr for layer in found.layers)
    assert found.judged == 2 and found.calibration["samples"] == 10


@pytest.mark.parametrize("metric", ["sqnr", "cosine", "kl"])
def test_every_metric_orders_by_itself(metric: Any) -> None:
    losses = [layer.alone.loss(metric) for layer in measure(metric=metric).layers]
    assert losses == sorted(losses, reverse=True) and len(set(losses)) == 3


def test_cumulative_starts_with_the_least_sensitive_and_ends_with_all() -> None:
    found = measure(validate=samples(6, seed=2))
    assert found.judged == 6
    last = found.layers[-1]
    assert last.cumulative == last.alone
    assert found.all_quantized.sqnr < last.alone.sqnr
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert [layer.multiply_adds for layer in sorted(found.layers, key=lambda item: item.name)] == [512, 1024, 256]


def test_fewer_bits_lose_more() -> None:
    levels = [measure(bits, exclude=("second",)).all_quantized.sqnr for bits in ("w8a8", "w6a6", "w4a4")]
    assert levels[0] > levels[1] + 3 and levels[1] > levels[2] + 3


def test_numbers_are_those_of_the_quantized_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """All layers on: the same as rounded weights and Q/DQ pairs by the plan that the measurement made."""
    plans: list[QuantPlan] = []

    def kept(*args: Any) -> Any:
        made = choose_plan(*args)
        plans.append(made.plan)
        return made

    monkeypatch.setattr(run, "choose_plan", kept)
    judged = samples(3, seed=5)
    found = measure(validate=judged)
    model = planted()
    wanted = run_all(model, judged, optimize=False)
    round_weights_in_place(model, plans[0])
    InsertQdq(plans[0]).run(model)
    outputs = run_all(model, judged, optimize=False)
    level = np.mean([sqnr(a["y"], b["y"]) for a, b in zip(wanted, outputs, strict=True)])
    assert found.all_quantized.sqnr == pytest.approx(level, abs=0.01)
    assert {quant.scheme.bits for quant in plans[0].tensors.values()} == {4}


@pytest.mark.parametrize(
    ("options", "rewrites"),
    [
        ({}, {}),
        ({"rotate": "all"}, {"rotate": ["down", "heads", "scores"]}),
        ({"rounding": "gptq"}, {"rounding": 7}),
        ({"softmax": "tan", "softmax_bits": 4}, {"softmax": 1}),
        ({"softmax": "tan", "softmax_bits": 4, "softmax_form": "float"}, {"softmax": 1}),
    ],
)
def test_what_is_measured_is_what_a_compile_quantizes(options: dict[str, Any], rewrites: dict[str, Any]) -> None:
    """All layers on: the fidelity of the compiled graph, but for how kernels round. Every case has another one."""
    feeds = block_batches()
    asked = CompileOptions(calib=feeds, validate=[slice_rows(feeds[0], SPECS, 0, 1)], method="minmax", threads=1,
                           float_share=0.0, build_check="off", **options)  # fmt: skip
    found = measure_sensitivity(transformer_block(), asked)
    (output,) = compile_model(transformer_block(), asked).verification["model"].outputs
    assert found.rewrites == rewrites
    assert found.all_quantized.sqnr == pytest.approx(output.sqnr, abs=0.15)


def test_equalized_layers_lose_what_an_equalizing_compile_leaves() -> None:
    asked = CompileOptions(calib=samples(24), validate=samples(1, seed=5), equalize="os_plus", threads=1,
                           float_share=0.0, split_units="none", build_check="off")  # fmt: skip
    plain, equalized = (measure_sensitivity(planted(), item) for item in (replace(asked, equalize="none"), asked))
    (output,) = compile_model(planted(), asked).verification["model"].outputs
    assert equalized.rewrites == {"equalize": 1}
    assert equalized.all_quantized.sqnr == pytest.approx(output.sqnr, abs=0.15)
    assert equalized.all_quantized.sqnr > plain.all_quantized.sqnr + 6


def test_what_the_recipe_takes_is_taken() -> None:
    feeds = [{"x": np.random.default_rng(seed).standard_normal((1, 6, WIDTH)).astype(np.float32)} for seed in range(6)]
    asked = CompileOptions(calib=feeds, validate=feeds[:1], threads=1, float_share=0.0, build_check="off")
    model = with_large_channels(canonical(vit(1)))
    found, result = measure_sensitivity(model, asked), compile_model(model, asked)
    assert found.rewrites == {"equalize": len(result.plan.equalize)} and result.plan.equalize
    (output,) = result.verification["model"].outputs
    assert found.all_quantized.sqnr == pytest.approx(output.sqnr, abs=0.15)
    assert "QC209" in {item.code for item in found.diagnostics} & {item.code for item in result.diagnostics}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"bias_correction": "auto"}, "--bias-correction: corrections are made for all layers together"),
        ({"states": "int8"}, "--states: layers are measured within one call"),
        ({"passes": ("-no-such-pass",)}, "unknown pass 'no-such-pass'"),
        ({"plan": "plan.json"}, "--plan: layers are measured with the ranges that the data gives"),
    ],
)
def test_what_concerns_all_layers_together_is_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        measure_sensitivity(planted(), CompileOptions(calib=samples(), **options))


def test_excluded_nodes_are_no_layers() -> None:
    assert {layer.name for layer in measure(exclude=("third",)).layers} == {"first", "second"}


def test_groups_are_layers_together() -> None:
    text = "m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x) [u] b = MatMul(a, w) c = Relu(b) [v] y = MatMul(c, w) }"
    weight = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    feeds = [{"x": np.random.default_rng(i).standard_normal((1, 4)).astype(np.float32)} for i in range(4)]
    found = measure_sensitivity(build(text, w=weight), CompileOptions(calib=feeds, threads=1), unit="group")
    assert [layer.nodes for layer in found.layers] == [("u", "v")]
    assert found.layers[0].alone == found.layers[0].cumulative


def test_runs_are_linear_in_layers_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    original = SwitchedModel.outputs

    def counted(self: SwitchedModel, index: int, *args: Any) -> Any:
        runs.append(index)
        return original(self, index, *args)

    def counting(*args: Any) -> Any:
        monkeypatch.setattr(SwitchedModel, "outputs", counted)  # not what the planner measures before
        return measure_layers(*args)

    monkeypatch.setattr(run, "measure_layers", counting)
    measure(validate=samples(5, seed=3))
    assert len(runs) == 2 * 3 * 5


def test_no_data_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="no calibration data"):
        measure_sensitivity(planted(), CompileOptions())


def test_nothing_quantizable_and_nothing_float_are_named() -> None:
    feeds = [{"x": np.ones((1, 4), np.float32)}] * 2
    with pytest.raises(UnsupportedError, match=r"nothing here would be quantized \(the model has no MatMul"):
        measure_sensitivity(build("m (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"), CompileOptions(calib=feeds))
    with pytest.raises(UnsupportedError, match="no output is float"):
        measure_sensitivity(
            build("m (float[N, 4] x) => (int64[N, 1] y) { h = MatMul(x, w) y = ArgMax<axis = 1>(h) }",
                  w=np.ones((4, 4), np.float32)), CompileOptions(calib=feeds))  # fmt: skip


def test_int4_blocks_can_be_measured() -> None:
    random = np.random.default_rng(0)
    model = build("m (float[N, 32] x) => (float[N, 8] y) { [only] y = MatMul(x, w) }",
                  w=random.standard_normal((32, 8)).astype(np.float32))  # fmt: skip
    feeds = [{"x": random.standard_normal((1, 32)).astype(np.float32)} for _ in range(4)]
    found = measure_sensitivity(model, CompileOptions(calib=feeds, bits="w4a16", threads=1))
    assert 10 < found.all_quantized.sqnr < 30


def test_outputs_without_classes_have_no_divergence() -> None:
    model = build("m (float[N, 4] x) => (float[N, 1] y) { [only] y = MatMul(x, w) }", w=np.ones((4, 1), np.float32))
    feeds = [{"x": np.random.default_rng(i).standard_normal((1, 4)).astype(np.float32)} for i in range(4)]
    found = measure_sensitivity(model, CompileOptions(calib=feeds, bits="w4a4", threads=1), metric="kl")
    assert found.all_quantized.kl is None and found.all_quantized.error is None
