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
from qcompiler.passes.equalize.trials import Trials
from qcompiler.passes.quant.choose_ranges import POWERS, candidates
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.quant.switched_model import SwitchedModel, decibels
from qcompiler.passes.quant.zero_points import choose_zero_points
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind, Site
from qcompiler.plan import QuantPlan
from qcompiler.precision import Precision, Precisions
from qcompiler.registry import find_target
from qcompiler.session import Feeds, Session
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


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("build", [vit, bert, llama])
def test_a_trial_is_the_rewritten_model(build: Callable[[int], ir.Model], zero_points: bool) -> None:
    model = canonical(build(1))
    sites = list(find_sites(model).sites)
    parameters = drawn(sites)
    seen = sample_rows(model, sites, FEEDS)
    trials = Trials(model, TARGET, sites, seen, FEEDS, FEEDS, zero_points=zero_points, threads=1)
    trial = trials._trial(parameters)

    real = rewritten(model, parameters)
    chosen = select_sites(real, TARGET.placement)
    table = calibrate(real, sorted(set(chosen.sources.values())), FEEDS, threads=1)
    if zero_points:
        chosen.zero_points = choose_zero_points(real, TARGET, chosen, table.tensors)
    thresholds = candidates(table.tensors, chosen.steps)
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


@pytest.mark.parametrize("build", [vit, bert, llama])
def test_tensors_carry_the_errors_of_the_layers_in_front(build: Callable[[int], ir.Model]) -> None:
    """Those of the rewritten and quantized model, before its shift and scale are taken: the errors, not only values."""
    model = canonical(build(2))
    sites = list(find_sites(model).sites)
    parameters = drawn(sites)
    trials = Trials(model, TARGET, sites, sample_rows(model, sites, FEEDS), FEEDS, FEEDS, threads=1)
    last = [site for site in sites if site.kind is Kind.NORM][-1]
    found = trials.opened(parameters, 2.0)([last.name])(FEEDS[0])[last.name]

    real = rewritten(model, parameters)
    chosen = select_sites(real, TARGET.placement)
    table = calibrate(real, sorted(set(chosen.sources.values())), FEEDS, threads=1)
    plan = make_plan(real, TARGET, chosen, candidates(table.tensors, chosen.steps)[2.0])
    real = rounded(real, plan)
    InsertQdq(plan).run(real)
    wanted = Session(real, [last.name], threads=1).run(FEEDS[0])[last.name]
    made = parameters[last.name]
    wanted = wanted * made.scale + made.shift
    exact = Session(model, [last.name], threads=1).run(FEEDS[0])[last.name]
    assert np.square(found - wanted).sum() < 0.3 * np.square(exact - wanted).sum()


def test_nothing_given_is_the_float_model() -> None:
    model = canonical(vit(1))
    sites = list(find_sites(model).sites)
    trials = Trials(model, TARGET, sites, sample_rows(model, sites, FEEDS), FEEDS, FEEDS, threads=1)
    assert trials._switched.given({}).noise(()) == 0


@pytest.mark.parametrize("build", [vit, bert])
def test_a_shift_of_values_does_not_pass_through_coarse_probabilities(build: Callable[[int], ir.Model]) -> None:
    """With 4 bits the rows of probabilities do not sum to one: the shift comes back behind the product."""
    model, four = canonical(build(1)), Precisions(Precision(8, 4))
    sites = [site for site in find_sites(model).sites if site.kind is Kind.VALUE]
    parameters = {site.name: ShiftScale(np.full(site.sources, 3.0), np.ones(site.sources)) for site in sites}
    seen = sample_rows(model, sites, FEEDS)
    trials = Trials(model, TARGET, sites, seen, FEEDS, FEEDS, precisions=four, threads=1)
    trial = trials._trial(parameters)

    real = rewritten(model, parameters)
    chosen = select_sites(real, TARGET.placement, (), four)
    table = calibrate(real, sorted(set(chosen.sources.values())), FEEDS, threads=1)
    plan = make_plan(real, TARGET, chosen, candidates(table.tensors, chosen.steps)[2.0])
    wanted = SwitchedModel(real, plan, FEEDS, threads=1)
    products = [name for name in plan.nodes if name not in plan.weights]
    scales = {name: float(quant.scale) for name, quant in plan.tensors.items()}
    measured = decibels(trial.session.noise(products, trial.scales[2.0]))
    assert measured == pytest.approx(decibels(wanted.noise(products, scales)), abs=0.5)
    assert measured < decibels(trials._trial({}).session.noise(products, trials._scales[2.0])) - 1


def test_a_symbolic_number_of_heads_is_inferred() -> None:
    model = canonical(vit(1))
    site = next(site for site in find_sites(model).sites if site.kind is Kind.VALUE)
    trials = Trials(model, TARGET, [site], sample_rows(model, [site], FEEDS), FEEDS, FEEDS, threads=1)
    tensor = trials._product(site)
    value = next(value for node in model.graph for value in node.inputs if value is not None and value.name == tensor)
    form = trials._heads[str(tensor)]
    assert value.shape is not None
    value.shape = ir.Shape([size if place in (0, 3) else f"s{place}" for place, size in enumerate(value.shape)])
    trials._heads.clear()
    assert trials._product(site) == tensor
    assert trials._heads[str(tensor)] == form
