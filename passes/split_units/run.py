"""The first step of a compile that looks at data: hidden units that are computed apart, from a plan or as measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.first_samples import first_samples, why_not_measured
from qcompiler.diagnostics import Diagnostic
from qcompiler.filters import node_precisions, nodes_kept_float
from qcompiler.options import CompileOptions
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.split_units.choose_units import Decision, choose_units
from qcompiler.passes.split_units.split_units import SplitUnits
from qcompiler.pipeline import Guard, Hook, PassRun, Pipeline, diagnostics_of
from qcompiler.plan import QuantPlan
from qcompiler.progress import Progress
from qcompiler.target import Target

FEEDS = 12
"""Calibration samples that are measured on, one a feed."""


@dataclass(frozen=True, slots=True)
class UnitsSplit:
    """The model, what ran, and what a plan has to keep.

    Attributes:
        units: Hidden layer to its units, as the plan holds them; empty where nothing was split.
    """

    model: ir.Model
    runs: tuple[PassRun, ...] = ()
    units: dict[str, list[int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()


def split_units(
    model: ir.Model,
    target: Target,
    source: Source,
    options: CompileOptions,
    guard: Guard,
    hooks: Sequence[Hook],
    progress: Progress,
) -> UnitsSplit:
    """Split as the plan says, or as measured on the first calibration samples; held-back samples are left out.

    Data that cannot be measured on, or was made up, splits nothing.

    Raises:
        QcompileError: As reading the data or the plan.
    """
    if options.plan is not None:
        decision = Decision(_from_plan(QuantPlan.load(options.plan).units))
    elif options.split_units == "none" or options.calib is None or why_not_measured(model, source):
        return UnitsSplit(model)
    else:
        decision = choose_units(
            model, target, lambda: first_samples(model, source, FEEDS, held_back=options.validate is None),
            float_nodes=frozenset(nodes_kept_float(model, options)), precisions=node_precisions(model, options),
            goal=options.goal_sqnr, share=options.float_share, zero_points=options.zero_points == "auto",
            threads=options.threads, progress=lambda: progress.advance(1),
        )  # fmt: skip
    if not decision.units:
        return UnitsSplit(model, facts=decision.facts)
    made, runs = Pipeline([SplitUnits(decision.units), DropUnused()], hooks, guard).run(model)
    done = {name: list(units) for name, units in decision.units.items() if name in runs[0].outcome.matched}
    return UnitsSplit(made, runs, done, decision.facts, tuple(diagnostics_of(runs)))


def _from_plan(held: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(units) for name, units in held.items()}
