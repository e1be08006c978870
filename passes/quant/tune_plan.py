"""From calibration to a plan that was measured: which clipping rules, and which few nodes stay float."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.thresholds import quantization_error
from qcompiler.passes.quant.choose_ranges import FEWEST_SAMPLES, candidates, choose_rule, refine_by_group
from qcompiler.passes.quant.keep_sensitive_float import keep_sensitive_float
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.node_groups import ends, node_groups
from qcompiler.passes.quant.scan_inputs import clip_scan_inputs
from qcompiler.passes.quant.select_sites import Sites
from qcompiler.passes.quant.switched_model import SwitchedModel, decibels
from qcompiler.plan import QuantPlan
from qcompiler.scheme import FloatArray
from qcompiler.session import Feeds
from qcompiler.target import Target

FAST_GROUPS, FAST_ROUNDS = 8, 2
"""Bounds of the fast search: at most 2 rounds of 8 groups that may stay float."""
OUTSTANDING = 10.0
"""Noise over that of the median node which makes a node a candidate by itself: massive activations in a few layers."""
TYPICAL = 0.99
"""Share of elements that stand for what most tokens are like."""
FULL_SAMPLES = 12
"""Of each measurement of the full search."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The plan, and for the report what was measured on the way."""

    plan: QuantPlan
    facts: dict[str, Any] = field(default_factory=dict)


def tune_plan(
    model: ir.Model,
    target: Target,
    sites: Sites,
    tensors: Mapping[str, Histogram],
    feeds: Sequence[Feeds],
    *,
    goal: float,
    share: float,
    full: bool = False,
    channel_peaks: Mapping[str, FloatArray] | None = None,
    threads: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Tuned:
    """Measure clipping rules on `feeds` and take the best; keep groups of nodes float where that pays.

    Args:
        model: Normalized float model.
        feeds: A few calibration samples.
        full: Also choose the rule group by group, and keep single nodes float: about five times the measurements.
        goal: SQNR in dB of the outputs; above it no node is kept float.
        share: Largest share of the multiply-adds kept float.
    """
    thresholds = candidates(tensors, sites.steps)
    plan = make_plan(model, target, sites, thresholds[2.0], channel_peaks=channel_peaks)
    if not plan.tensors or not feeds:
        return Tuned(plan)
    switched = SwitchedModel(model, plan, feeds, threads=threads)
    scales = {
        power: {tensor: float(quant.scale) for tensor, quant in made.tensors.items()}
        for power, made in (
            (power, make_plan(model, target, sites, found, plan.weights)) for power, found in thresholds.items()
        )
    }
    rule = choose_rule(switched, switched.nodes, scales)
    best = rule.power
    # where outputs scatter, a rule may come out ahead only once another group is float
    near = [power for power in rule.near if power != best] if rule.samples > FEWEST_SAMPLES else []
    groups: Sequence[tuple[str, ...]] = node_groups(model, plan.nodes, whole_attention=target.placement.whole_attention)
    loudness = _loudness(model, plan, _local_noise(tensors, sites, thresholds[best]))
    if not full:
        groups = sorted(groups, key=lambda group: max(map(loudness.__getitem__, group)), reverse=True)[:FAST_GROUPS]
    groups = [*groups, *_outstanding(loudness)]
    if any(node.op_type == "Conv" and node.name in plan.nodes for node in model.graph):
        groups = [*groups, *ends(model, plan.nodes)]
    kept = keep_sensitive_float(
        switched, [scales[power] for power in (best, *near)], groups, goal=goal, share=share, known=rule.levels,
        rounds=None if full else FAST_ROUNDS, fewest=FULL_SAMPLES if full else rule.samples // 2, split=full,
        progress=progress,
    )  # fmt: skip
    quantized = [name for name in plan.nodes if name not in kept.reasons]
    if kept.reasons:
        again = choose_rule(switched, quantized, scales)
        best, noise = again.power, again.noise[again.power]
    else:
        noise = rule.noise[best]
    powers = dict.fromkeys(plan.tensors, best)
    if full:
        readers = _tensors_of(model, plan, quantized)
        powers, noise = refine_by_group(switched, quantized, scales, best, readers, samples=FULL_SAMPLES)
    # equal sources share a threshold: a tensor and its reshaped twin may sit in two groups, the later choice counts
    chosen = {sites.sources[tensor]: thresholds[power][sites.sources[tensor]] for tensor, power in powers.items()}
    taken = {tensor: scales[power][tensor] for tensor, power in powers.items()}
    clipped = clip_scan_inputs(model, sites, tensors, switched, quantized, taken)
    final = make_plan(model, target, sites, chosen | clipped.thresholds, plan.weights, channel_peaks)
    for name, reason in kept.reasons.items():
        final.nodes.pop(name)
        final.outputs.pop(name, None)
        final.weights.pop(name, None)
        final.floats[name] = reason
    facts = {
        "samples": rule.samples,
        "rules_sqnr": {_rule(power): round(decibels(found), 2) for power, found in rule.noise.items()},
        "rules": {_rule(power): sum(chosen == power for chosen in powers.values()) for power in thresholds},
        "sqnr_all_quantized": round(kept.before, 2),
        "sqnr": round(decibels(noise), 2),
        "kept_float": sorted(kept.reasons),
    }
    if clipped.facts:
        facts["scan_inputs"] = clipped.facts
    return Tuned(final, facts)


def _local_noise(
    tensors: Mapping[str, Histogram], sites: Sites, thresholds: Mapping[str, float]
) -> dict[str, float]:
    """Noise over signal power that each quantized tensor has by itself, from its histogram.

    Of all elements, or of all but the largest hundredth, whichever is more: a few tokens with massive activations hold
    nearly all the power, and the step that suits them drowns all others.
    """
    found = {}
    for tensor, source in sites.sources.items():
        if source in thresholds and tensors[source].mean_square > 0:
            parts = [tensors[source], tensors[source].smallest(TYPICAL)]
            found[tensor] = max(
                float(quantization_error(part, [thresholds[source]], sites.steps(source))[0]) / part.mean_square
                for part in parts
                if part.mean_square > 0
            )
    return found


def _loudness(model: ir.Model, plan: QuantPlan, noise: Mapping[str, float]) -> dict[str, float]:
    """Most noise that one of the tensors a node reads has of its own."""
    inputs = {str(node.name): node.inputs for node in model.graph if node.name in plan.nodes}
    return {
        name: max(
            (noise.get(str(value.name), 0.0) for index in indices if (value := inputs[name][index]) is not None),
            default=0.0,
        )
        for name, indices in plan.nodes.items()
    }


def _outstanding(loudness: Mapping[str, float]) -> list[tuple[str, ...]]:
    """The loudest 1, 2, 4, 6, 8 of the nodes that are `OUTSTANDING` times as loud as half of all."""
    ordered = sorted(loudness, key=loudness.__getitem__, reverse=True)
    bar = OUTSTANDING * loudness[ordered[len(ordered) // 2]]
    found = [name for name in ordered if loudness[name] > bar]
    return [tuple(found[:count]) for count in (1, 2, 4, 6, 8) if count <= len(found)]


def _tensors_of(model: ir.Model, plan: QuantPlan, quantized: Collection[str]) -> list[set[str]]:
    """The quantized tensors that each group of nodes reads."""
    inputs = {str(node.name): node.inputs for node in model.graph if node.name in plan.nodes}
    return [
        {str(value.name) for name in group for index in plan.nodes[name] if (value := inputs[name][index]) is not None}
        for group in node_groups(model, quantized)
    ]


def _rule(power: float) -> str:
    return {2.0: "mse", math.inf: "minmax"}.get(power, f"l{power:g}")
