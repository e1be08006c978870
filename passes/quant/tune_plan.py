"""From calibration to a plan that was measured: which clipping rule, and which few nodes stay float."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from qcompiler.calibration.observers import Histogram
from qcompiler.passes.quant.choose_ranges import candidates, choose_ranges
from qcompiler.passes.quant.keep_sensitive_float import keep_sensitive_float
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.select_sites import Sites
from qcompiler.passes.quant.switched_model import SwitchedModel
from qcompiler.plan import QuantPlan
from qcompiler.session import Feeds
from qcompiler.target import Target


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
    threads: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Tuned:
    """Measure the clipping rules on `feeds`, take the best; then keep sensitive nodes float where that is allowed.

    Args:
        model: Normalized float model.
        feeds: One or two calibration samples.
        goal: SQNR in dB of the outputs; above it no node is kept float.
        share: Largest share of nodes kept float.
    """
    plans: dict[float, QuantPlan] = {}
    for power, thresholds in candidates(tensors, target.activation.qmax).items():
        weights = next(iter(plans.values())).weights if plans else None
        plans[power] = make_plan(model, target, sites, thresholds, weights)
    first = next(iter(plans.values()))
    if not first.nodes or not feeds:
        return Tuned(first)
    switched = SwitchedModel(model, first, feeds, threads=threads)
    scales = {
        power: {tensor: float(quant.scale) for tensor, quant in plan.tensors.items()} for power, plan in plans.items()
    }
    best, measured = choose_ranges(switched, scales)
    facts: dict[str, Any] = {
        "rules": {_rule(power): round(found, 2) for power, found in measured.items()},
        "rule": _rule(best),
    }
    plan = plans[best]
    if share > 0:
        plan, found = keep_sensitive_float(switched, plan, goal=goal, share=share, progress=progress)
        facts["kept_float"] = list(found.dropped)
        facts["sensitivity"] = {name: round(value, 2) for name, value in found.alone.items()}
        facts["sqnr"] = {"before": round(found.before, 2), "after": round(found.after, 2)}
    return Tuned(plan, facts)


def _rule(power: float) -> str:
    return {2.0: "mse", math.inf: "minmax"}.get(power, f"l{power:g}")
