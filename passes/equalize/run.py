"""The step of a compile between the float passes and calibration: parameters from data or a plan, then the rewrite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.first_samples import first_samples, why_not_measured
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.filters import node_precisions, nodes_kept_float
from qcompiler.options import CompileOptions, EqualizeMethod
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.equalize.decide import Decision, decide
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.pipeline import Guard, Hook, PassRun, Pipeline, diagnostics_of
from qcompiler.plan import QuantPlan
from qcompiler.progress import Progress
from qcompiler.target import Target

FEEDS = 32
"""Calibration samples that sites are measured on, one a feed."""


@dataclass(frozen=True, slots=True)
class Equalized:
    """The model, what ran, and what a plan has to keep.

    Attributes:
        parameters: Site to "shift" and "scale", as the plan holds them; empty where nothing was rewritten.
    """

    model: ir.Model
    runs: tuple[PassRun, ...] = ()
    parameters: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()


def equalize(
    model: ir.Model,
    target: Target,
    source: Source,
    method: EqualizeMethod,
    options: CompileOptions,
    guard: Guard,
    hooks: Sequence[Hook],
    progress: Progress,
) -> Equalized:
    """Rewrite as the plan says, or as measured on the first calibration samples; held-back samples are left out.

    Args:
        method: What the options ask for, or what a recipe made of it.

    Raises:
        QcompileError: As reading the data or the plan.
    """
    if options.plan is not None:
        decision = Decision(from_plan(QuantPlan.load(options.plan).equalize), {"method": "plan"})
    elif method == "none":
        return Equalized(model)
    elif why := why_not_measured(model, source):
        finding = Diagnostic("QC204", Severity.WARNING, "--equalize", f"nothing is rewritten: {why}")
        return Equalized(model, diagnostics=(finding,))
    else:
        decision = decide(
            model, target, first_samples(model, source, FEEDS, held_back=options.validate is None),
            method=method,
            float_nodes=frozenset(nodes_kept_float(model, options)), precisions=node_precisions(model, options),
            goal=options.goal_sqnr, share=options.float_share, zero_points=options.zero_points == "auto",
            full=options.search == "full",
            threads=options.threads,
            progress=lambda: progress.advance(1),
        )  # fmt: skip
    if not decision.parameters:
        return Equalized(model, facts=decision.facts)
    rewritten, runs = Pipeline([FoldShiftScale(decision.parameters), DropUnused()], hooks, guard).run(model)
    done = {name: made for name, made in decision.parameters.items() if name in runs[0].outcome.matched}
    return Equalized(rewritten, runs, to_plan(done), decision.facts, tuple(diagnostics_of(runs)))


def to_plan(parameters: Mapping[str, ShiftScale]) -> dict[str, dict[str, list[float]]]:
    """As a plan keeps them."""
    return {
        name: {
            "shift": np.asarray(made.shift, np.float64).tolist(),
            "scale": np.asarray(made.scale, np.float64).tolist(),
        }
        for name, made in parameters.items()
    }


def from_plan(held: Mapping[str, Mapping[str, list[float]]]) -> dict[str, ShiftScale]:
    """What `to_plan` made."""
    return {name: ShiftScale(np.asarray(item["shift"]), np.asarray(item["scale"])) for name, item in held.items()}

