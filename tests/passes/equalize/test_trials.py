"""A trial measures what the rewritten model would: codes, weights, ranges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.calibration.runner import calibrate
from qcompiler.numerics import dequantize, quantize
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.equalize.sample_rows import sample_rows
from qcompiler.passes.equalize.trials import POWERS, Trials
from qcompiler.passes.quant.choose_ranges import candidates
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.quant.switched_model import SwitchedModel, decibels
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Site
from qcompiler.plan import QuantPlan
from qcompiler.registry import find_target
from qcompiler.session import Feeds
from tests.architectures import WIDTH, bert, canonical, llama, vit

RANDOM = np.random.default_rng(5)
FEEDS: list[Feeds] = [{"x": RANDOM.standard_normal((1, 6, WIDTH)).astype(np.float32)} for _ in range(6)]
TARGET = find_target("ort-cpu")


def drawn(sites: list[Site]) -> dict[str, ShiftScale]:
    """Some shift and scale at each site."""
    random = np.random.default_rng(6)
    return {
        site.name: ShiftScale(
            random.normal(0, 0.3, site.sources) * site.shifts, np.exp2(random.integers(-2, 3, site.sources))
        )
        for site in sites
    }


def rewritten(model: ir.Model, parameters: dict[str, ShiftScale]) -> ir.Model:
    copy = model.clone()
    FoldShiftScale(parameters).run(copy)
    return copy


def rounded(model: ir.Model, plan: QuantPlan) -> ir.Model:
    """The model with weights as after quantization."""
    copy = model.clone()
    for node in copy.graph:
        for index, quant in plan.weights.get(str(node.name), {}).items():
            weight = node.inputs[index]
            assert weight is not None and weight.const_value is not None
            array = dequantize(quantize(weight.const_value.numpy(), quant), quant)
            name = f"{node.name}_rounded"
            value = ir.Value(name=name, shape=weight.shape, type=weight.type, const_value=ir.tensor(array, name=name))
            copy.graph.register_initializer(value)
            node.replace_input_with(index, value)
    return copy


@pytest.mark.parametrize("build", [vit, bert, llama])
def test_a_trial_is_the_rewritten_model(build: Callable[[int], ir.Model]) -> None:
    model = canonical(build(1))
    sites = list(find_sites(model).sites)
    parameters = drawn(sites)
    trials = Trials(model, TARGET, sites, sample_rows(model, sites, FEEDS), FEEDS, FEEDS, threads=1)
    trial = trials._trial(parameters)

    real = rewritten(model, parameters)
    chosen = select_sites(real, TARGET.placement)
    table = calibrate(real, sorted(set(chosen.sources.values())), FEEDS, threads=1)
    thresholds = candidates(table.tensors, lambda _: 127)
    plan = make_plan(real, TARGET, chosen, thresholds[2.0])
    exact = SwitchedModel(real, plan, FEEDS, threads=1)
    wanted = SwitchedModel(rounded(real, plan), plan, FEEDS, threads=1)
    wanted._references = {index: exact._reference(index) for index in range(len(FEEDS))}
    assert decibels(trial.session.noise(())) == pytest.approx(decibels(wanted.noise(())), abs=0.05)
    for power, found in ((power, thresholds[power]) for power in POWERS):
        scales = {name: float(quant.scale) for name, quant in make_plan(real, TARGET, chosen, found).tensors.items()}
        assert sorted(trial.scales[power].values()) == pytest.approx(sorted(scales.values()), rel=1e-3)
        for nodes in [*([name] for name in plan.nodes), list(plan.nodes)]:
            measured = decibels(trial.session.noise(nodes, trial.scales[power]))
            assert measured == pytest.approx(decibels(wanted.noise(nodes, scales)), abs=0.3)


def test_nothing_given_is_the_float_model() -> None:
    model = canonical(vit(1))
    sites = list(find_sites(model).sites)
    trials = Trials(model, TARGET, sites, sample_rows(model, sites, FEEDS), FEEDS, FEEDS, threads=1)
    assert trials._switched.given({}).noise(()) == 0
