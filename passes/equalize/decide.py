"""Which sites to shift and scale, and by how much: measured site by site, then end to end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.runner import calibrate
from qcompiler.passes.equalize.choose_shift_scale import Choice, choose
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.equalize.sample_rows import sample_rows
from qcompiler.passes.quant.choose_ranges import candidates, choose_rule
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.quant.switched_model import NO_NOISE, SwitchedModel, decibels, judge_scores, output_noise
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind, Site
from qcompiler.plan import QuantPlan
from qcompiler.session import Feeds, Session
from qcompiler.target import Target

Method = Literal["none", "auto", "os_plus", "smooth"]
METHODS: Mapping[str, tuple[str, ...]] = {
    "auto": ("shift", "os_plus", "smooth", "smooth_shift"),
    "os_plus": ("shift", "os_plus"),
    "smooth": ("smooth",),
}
WORTH = 0.9
"""A site is rewritten where its readers lose a tenth of their error, and with added nodes only where they lose half."""
WORTH_NODES = 0.5
GAIN = 0.5
"""Decibels at the outputs that rewrites have to gain, without and with added nodes: less is within the measurement."""
GAIN_NODES = 1.5
FEEDS_FOR_WEIGHTS = 6
POLICIES: Mapping[str, Mapping[Kind, tuple[str, ...]]] = {
    "no_nodes": {},
    "residual_edges": {Kind.NORM: METHODS["auto"]},
    "activation_shifts": {Kind.NORM: METHODS["auto"], Kind.ACTIVATION: ("shift",)},
    "activation_scales": {Kind.NORM: METHODS["auto"], Kind.ACTIVATION: METHODS["auto"]},
}
"""What is tried in turn, with the methods that may add nodes by kind of site."""
Parameters = dict[str, ShiftScale]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to rewrite, and for the report what was measured."""

    parameters: Parameters = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def decide(
    model: ir.Model,
    target: Target,
    feeds: Sequence[Feeds],
    *,
    method: Method = "auto",
    float_nodes: frozenset[str] = frozenset(),
    goal: float = 25.0,
    share: float = 0.1,
    threads: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Decision:
    """Choose parameters for `FoldShiftScale`.

    Every site takes the method that leaves its readers least error. Then the model is quantized without rewrites, with
    those that add no node, and, as long as the outputs stay below `goal` dB, with those that do (the scale of a
    residual edge, activation functions). What costs more is taken only where the outputs gain enough; where nothing
    gains, nothing is rewritten.

    Args:
        model: In canonical form; left as it is.
        feeds: A few calibration samples.
        float_nodes: Names of nodes that are not quantized.
        share: Of the multiply-adds that may stay float. Where the attention products fit, rewrites are judged without
            them: no rewrite takes away their noise, which hides what is gained, and which tuning takes away.
    """
    start = time.perf_counter()
    quantized = select_sites(model, target.placement, float_nodes).activations
    sites = [site for site in find_sites(model).sites if any(item.node.name in quantized for item in site.readers)]
    if not sites or not feeds or method == "none":
        return Decision({}, {"method": method, "sites": {}})
    seen = sample_rows(model, sites, feeds, threads=threads)
    choices = {}
    for site in sites:
        choices[site.name] = choose(site, seen[site.name], METHODS[method])
        progress()
    measured = {"none": _measure(model, target, {}, feeds, float_nodes, share, threads)}
    best, parameters, tried = "none", Parameters(), Parameters()
    for name, nodes in POLICIES.items():
        if nodes and measured[best].judged >= goal:
            break
        made = _pick(sites, choices, METHODS[method], nodes)
        if made.keys() == tried.keys() and all(made[key] is tried[key] for key in made):
            continue
        tried = made
        measured[name] = _measure(model, target, made, feeds, float_nodes, share, threads)
        progress()
        gain = measured[name].judged - measured[best].judged
        if gain >= (GAIN_NODES if nodes else GAIN) and measured[name].total >= measured["none"].total:
            best, parameters = name, made
    facts = {
        "method": method,
        "samples": len(feeds),
        "sqnr": {name: round(value.total, 2) for name, value in measured.items()},
        "sqnr_judged": {name: round(value.judged, 2) for name, value in measured.items()},
        "taken": best,
        "sites": {site.name: _described(site, choices[site.name], parameters.get(site.name)) for site in sites},
        "added_nodes": _added(model, parameters),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return Decision(parameters, facts)


def _pick(
    sites: Sequence[Site], choices: Mapping[str, Choice], methods: Sequence[str], nodes: Mapping[Kind, Sequence[str]]
) -> Parameters:
    """The best method of each site; methods that add nodes only where `nodes` names them for its kind."""
    made: Parameters = {}
    for site in sites:
        choice = choices[site.name]
        tried = [item for item in methods if item in choice.best]
        free = [item for item in tried if _is_free(site, choice.best[item])]
        best = _least(choice, free)
        bar = WORTH * choice.losses["none"]
        if best is not None and choice.losses[best] <= bar:
            bar = WORTH_NODES * choice.losses[best]
        else:
            best, bar = None, WORTH_NODES * choice.losses["none"]
        costly = _least(choice, [item for item in tried if item in nodes.get(site.kind, ())])
        if costly is not None and choice.losses[costly] <= bar:
            best = costly
        if best is not None:
            made[site.name] = choice.best[best]
    return made


def _least(choice: Choice, methods: Sequence[str]) -> str | None:
    return min(methods, key=lambda item: choice.losses[item], default=None)


def _is_free(site: Site, made: ShiftScale) -> bool:
    """Whether the rewrite adds no node (but a bias to a layer that has none)."""
    if not site.scales:
        return False
    return not site.edges or (not made.scales and all(edge.bias is not None and edge.axis == -1 for edge in site.edges))


@dataclass(frozen=True, slots=True)
class _Measured:
    """SQNR in dB of the outputs: with everything quantized, and with what the rewrite is judged by."""

    total: float
    judged: float


def _measure(
    model: ir.Model,
    target: Target,
    parameters: Parameters,
    feeds: Sequence[Feeds],
    float_nodes: frozenset[str],
    share: float,
    threads: int,
) -> _Measured:
    """Noise of the activations, by the clipping rule that suits best, plus that of the weights."""
    copy = model.clone()
    FoldShiftScale(parameters).run(copy)
    sites = select_sites(copy, target.placement, float_nodes)
    table = calibrate(copy, sorted(set(sites.sources.values())), feeds, threads=threads)
    thresholds = candidates(table.tensors, target.activation.qmax)
    plan = make_plan(copy, target, sites, thresholds[2.0])
    if not plan.nodes:
        return _Measured(np.inf, np.inf)
    switched = SwitchedModel(copy, plan, feeds, threads=threads)
    scales = {
        power: {
            tensor: float(quant.scale)
            for tensor, quant in make_plan(copy, target, sites, found, plan.weights).tensors.items()
        }
        for power, found in thresholds.items()
    }
    products = {str(node.name) for node in copy.graph if node.name in plan.nodes and node.name not in plan.weights}
    costs = switched.costs
    fit = products and sum(costs[name] for name in products) <= share * sum(costs.values())
    weights = _weight_noise(copy, plan, feeds[:FEEDS_FOR_WEIGHTS], threads)

    def total(nodes: frozenset[str]) -> float:
        rule = choose_rule(switched, nodes, scales)
        return decibels(rule.noise[rule.power] + weights)

    every = total(frozenset(switched.nodes))
    return _Measured(every, total(frozenset(switched.nodes) - products) if fit else every)


def _weight_noise(model: ir.Model, plan: QuantPlan, feeds: Sequence[Feeds], threads: int) -> float:
    """Noise over signal power of the outputs with only the weights quantized: mean over samples in dB."""
    judge_scores(model.graph)
    session = Session(model, threads=threads)
    references = [session.run(feed) for feed in feeds]
    weights = QuantPlan(nodes=dict.fromkeys(plan.weights, ()), weights=plan.weights)
    QuantizeWeights(weights).run(model)
    InsertQdq(weights).run(model)
    session = Session(model, threads=threads)
    noises = [output_noise(wanted, session.run(feed)) for wanted, feed in zip(references, feeds, strict=True)]
    return float(np.exp(np.mean(np.log(np.maximum(noises, NO_NOISE)))))


def _described(site: Site, choice: Choice, taken: ShiftScale | None) -> dict[str, Any]:
    method = next((name for name, made in choice.best.items() if made is taken), "none")
    return {
        "kind": site.kind.value,
        "method": method,
        "readers_sqnr": {name: round(decibels(loss), 1) for name, loss in choice.losses.items()},
    }


def _added(model: ir.Model, parameters: Parameters) -> int:
    copy = model.clone()
    before = Counter(node.op_type for node in copy.graph)
    FoldShiftScale(parameters).run(copy)
    return sum((Counter(node.op_type for node in copy.graph) - before).values())
