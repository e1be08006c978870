"""Noise at the outputs of a model that is rewritten and quantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.runner import calibrate
from qcompiler.passes.quant.choose_ranges import candidates, choose_rule
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.quant.switched_model import NO_NOISE, SwitchedModel, decibels, judge_scores, output_noise
from qcompiler.passes.quant.zero_points import choose_zero_points
from qcompiler.pipeline import Pass
from qcompiler.plan import QuantPlan
from qcompiler.precision import Precisions
from qcompiler.session import Feeds, Session
from qcompiler.target import Target

FEEDS_FOR_WEIGHTS = 6


@dataclass(frozen=True, slots=True)
class Measured:
    """SQNR of the outputs in dB.

    Attributes:
        total: With everything quantized.
        judged: Without the attention products where these fit into the share that may stay float: tuning takes their
            noise away, which hides what else is gained.
        costs: Multiply-adds by node on the first sample.
    """

    total: float
    judged: float
    costs: dict[str, int]


def measure(
    model: ir.Model,
    target: Target,
    rewrites: Sequence[Pass],
    feeds: Sequence[Feeds],
    *,
    float_nodes: frozenset[str],
    precisions: Precisions,
    share: float,
    zero_points: bool,
    threads: int,
) -> Measured:
    """Noise of the activations, by the clipping rule that suits best, plus that of the weights."""
    copy = model.clone()
    for item in rewrites:
        item.run(copy)
    sites = select_sites(copy, target.placement, float_nodes, precisions)
    table = calibrate(copy, sorted(set(sites.sources.values())), feeds, threads=threads)
    if zero_points:
        sites.zero_points = choose_zero_points(copy, target, sites, table.tensors)
    thresholds = candidates(table.tensors, sites.steps)
    plan = make_plan(copy, target, sites, thresholds[2.0])
    if not plan.tensors:
        return Measured(np.inf, np.inf, {})
    switched = SwitchedModel(copy, plan, feeds, threads=threads)
    scales = {
        power: {
            tensor: float(quant.scale)
            for tensor, quant in make_plan(copy, target, sites, found, plan.weights).tensors.items()
        }
        for power, found in thresholds.items()
    }
    every = frozenset(switched.nodes)
    products = every - plan.weights.keys()
    costs = dict(switched.costs)
    fit = products and products != every and sum(costs[name] for name in products) <= share * sum(costs.values())
    levels = {nodes: choose_rule(switched, nodes, scales) for nodes in {every, every - products if fit else every}}
    del switched
    weights = _weight_noise(copy, plan, feeds[:FEEDS_FOR_WEIGHTS], threads)
    found = {nodes: decibels(rule.noise[rule.power] + weights) for nodes, rule in levels.items()}
    return Measured(found[every], found[every - products if fit else every], costs)


def _weight_noise(model: ir.Model, plan: QuantPlan, feeds: Sequence[Feeds], threads: int) -> float:
    """Noise over signal power with only the weights quantized: mean over samples in dB. The model is changed."""
    judge_scores(model.graph)
    session = Session(model, threads=threads)
    references = [session.run(feed) for feed in feeds]
    del session
    weights = QuantPlan(nodes=dict.fromkeys(plan.weights, ()), weights=plan.weights)
    QuantizeWeights(weights).run(model)
    InsertQdq(weights).run(model)
    session = Session(model, threads=threads)
    noises = [output_noise(wanted, session.run(feed)) for wanted, feed in zip(references, feeds, strict=True)]
    return float(np.exp(np.mean(np.log(np.maximum(noises, NO_NOISE)))))
