"""The step of a compile in front of shift and scale: rotations from data or a plan, then the rewrite."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.first_samples import first_samples, why_not_measured
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.errors import UsageError
from qcompiler.filters import node_precisions, nodes_kept_float
from qcompiler.options import CompileOptions
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.rotate.decide import MEASURED, Decision, decide
from qcompiler.passes.rotate.draws import Draws, draw_from_json, draw_to_json
from qcompiler.passes.rotate.rotations import KINDS, Kind, Rotation, passes_of
from qcompiler.pipeline import Guard, Hook, PassRun, Pipeline, diagnostics_of
from qcompiler.plan import QuantPlan
from qcompiler.progress import Progress
from qcompiler.target import Target

FEEDS = 12
"""Calibration samples that are measured on, one a feed."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """The model, what ran, and what a plan has to keep.

    Attributes:
        rotations: Kind to "sites", "seed" and "draws", as the plan holds them; empty where nothing was rotated.
    """

    model: ir.Model
    runs: tuple[PassRun, ...] = ()
    rotations: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()


def rotate(
    model: ir.Model,
    target: Target,
    source: Source,
    options: CompileOptions,
    guard: Guard,
    hooks: Sequence[Hook],
    progress: Progress,
) -> Rotated:
    """Rotate as the plan says, as the user names, or as measured; samples held back for verification are left out.

    Raises:
        QcompileError: As reading the data or the plan; a plan that rotates what this model does not have.
    """
    why = ""
    if options.plan is not None:
        decision = Decision(from_plan(QuantPlan.load(options.plan).rotate), {})
    elif options.rotate == "none":
        return Rotated(model)
    elif options.rotate in MEASURED and (why := why_not_measured(model, source)):
        finding = Diagnostic("QC204", Severity.WARNING, "--rotate", f"nothing is rotated: {why}", "name the kinds")
        return Rotated(model, diagnostics=(finding,))
    else:
        why = why_not_measured(model, source) if options.search == "full" else ""
        measured = options.rotate in MEASURED or (options.search == "full" and not why)
        decision = decide(
            model, target, first_samples(model, source, FEEDS, held_back=options.validate is None) if measured else (),
            how=options.rotate, float_nodes=frozenset(nodes_kept_float(model, options)),
            precisions=node_precisions(model, options), goal=options.goal_sqnr, share=options.float_share,
            zero_points=options.zero_points == "auto", full=options.search == "full", threads=options.threads,
            progress=lambda: progress.advance(1),
        )  # fmt: skip
    findings = [
        Diagnostic("QC204", Severity.WARNING, "--rotate", f"signs and orders are not chosen on data: {why}",
                   "--search fast takes those of seed 0 too")
    ] if why else []  # fmt: skip
    findings += [
        Diagnostic("QC205", Severity.INFO, node, "a few positions decide the range of what it reads, rotated or not",
                   "if the outputs need it, keep it float with --exclude")
        for node in decision.facts.get("still_noisy", ())
    ]  # fmt: skip
    if not decision.rotations:
        return Rotated(model, facts=decision.facts, diagnostics=tuple(findings))
    passes = passes_of(decision.rotations)
    rotated, runs = Pipeline([*passes, DropUnused()], hooks, guard).run(model)
    if options.plan is not None:
        _check(runs, str(options.plan))
    done = [
        Rotation(item.kind, run.outcome.matched, item.seed, _made(item, run.outcome.matched))
        for item, run in zip(decision.rotations, runs, strict=False)
        if run.outcome.matched
    ]
    return Rotated(rotated, runs, to_plan(done), decision.facts, (*findings, *diagnostics_of(runs)))


def _check(runs: Sequence[PassRun], where: str) -> None:
    for skip in (skip for run in runs for skip in run.outcome.skipped):
        raise UsageError(f"{skip.where!r} cannot be rotated: {skip.reason}", where=where,
                         hint="was the plan made for another model?")  # fmt: skip


def to_plan(rotations: Sequence[Rotation]) -> dict[str, dict[str, Any]]:
    """As a plan keeps them: no matrices, which follow from seeds and orders."""
    held: dict[str, dict[str, Any]] = {}
    for item in rotations:
        held[item.kind] = {"sites": list(item.sites), "seed": item.seed}
        if item.draws:
            held[item.kind]["draws"] = {name: draw_to_json(draw) for name, draw in item.draws}
    return held


def from_plan(held: dict[str, dict[str, Any]]) -> tuple[Rotation, ...]:
    """What `to_plan` made, in the order of the passes."""
    return tuple(_rotation(kind, held[kind]) for kind in KINDS if kind in held)


def _rotation(kind: Kind, entry: dict[str, Any]) -> Rotation:
    draws = sorted(entry.get("draws", {}).items())
    own = tuple((str(name), draw_from_json(draw)) for name, draw in draws)
    return Rotation(kind, tuple(entry["sites"]), entry["seed"], own)


def _made(item: Rotation, matched: Collection[str]) -> Draws:
    return tuple((name, draw) for name, draw in item.draws if name in matched)
