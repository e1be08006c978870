"""The step of a compile from calibration data, or from the user's plan, to the plan that is carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.first_samples import why_not_measured
from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.masks import without_padding
from qcompiler.calibration.runner import calibrate
from qcompiler.calibration.split import FirstFeeds, Split
from qcompiler.calibration.table import CalibrationTable
from qcompiler.calibration.thresholds import find_threshold
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.errors import UsageError
from qcompiler.graph import weight_bytes
from qcompiler.memory import release_freed
from qcompiler.options import CompileOptions
from qcompiler.passes.quant.check_plan import check_plan
from qcompiler.passes.quant.estimate_biases import estimate_biases
from qcompiler.passes.quant.make_plan import CHANNEL_AXIS, make_plan
from qcompiler.passes.quant.round_weights import codes_on_data, round_weights
from qcompiler.passes.quant.select_sites import Sites
from qcompiler.passes.quant.state_scales import choose_state_scales, states_or_raise, tensors_of
from qcompiler.passes.quant.tune_plan import tune_plan
from qcompiler.passes.quant.zero_points import choose_zero_points
from qcompiler.passes.softmax.decide import Wish, give_lookups, reserve
from qcompiler.plan import QuantPlan
from qcompiler.session import Feeds
from qcompiler.target import Target

TUNING_FEEDS = 16
"""At most so many samples are kept for measuring plans on, one a feed."""
TUNING_BYTES = 2 << 30
"""Measuring plans needs one more session with all weights; above this it takes more than it gives."""


@dataclass(slots=True)
class Planned:
    """The plan; what calibration saw, None where the plan was given; and what was measured, for the report."""

    plan: QuantPlan
    table: CalibrationTable | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()


def choose_plan(
    model: ir.Model,
    target: Target,
    sites: Sites,
    batches: Split | Source,
    options: CompileOptions,
    progress: Callable[[], None] = lambda: None,
) -> Planned:
    """Calibrate and choose scales, or take the user's plan (the data is still read: verification needs it).

    Args:
        sites: Zero points are written into them, and 8 bits for what will be looked up.

    Raises:
        QcompileError: As reading the data or the plan.
    """
    if options.plan is not None:
        return Planned(_given_plan(model, target, batches, options))
    wish = Wish(options.softmax, options.softmax_bits, options.softmax_form)
    wanted = reserve(model, sites, wish)
    kept = FirstFeeds(batches, TUNING_FEEDS)
    states = states_or_raise(model) if options.states == "int8" else []
    table = calibrate(
        model, sorted({*sites.sources.values(), *tensors_of(states)}), kept, threads=options.threads,
        progress=lambda _count: progress(), channel_axes=dict.fromkeys(sites.outputs.values(), CHANNEL_AXIS),
    )  # fmt: skip
    if options.zero_points == "auto":
        sites.zero_points = choose_zero_points(model, target, sites, table.tensors)
    peaks = {name: item.peaks for name, item in table.channels.items()}
    small = weight_bytes(model) <= TUNING_BYTES
    feeds = [without_padding(feed, input_specs(model)) for feed in kept.feeds] if small else []
    if options.method == "auto" and small:
        tuned = tune_plan(
            model, target, sites, table.tensors, feeds, goal=options.goal_sqnr, share=options.float_share,
            full=options.search == "full", channel_peaks=peaks, threads=options.threads, progress=progress,
        )  # fmt: skip
        made = Planned(tuned.plan, table, tuned.facts)
    else:
        method = "mse" if options.method == "auto" else options.method
        found = {
            name: find_threshold(histogram, method, qmax=sites.steps(name), percentile=options.percentile).value
            for name, histogram in table.tensors.items()
            if histogram.count
        }
        made = Planned(make_plan(model, target, sites, found, channel_peaks=peaks), table)
        if options.method == "auto":
            note = "the weights are too large to measure clipping rules on; taking mse"
            made.diagnostics = (Diagnostic("QC203", Severity.INFO, "", note, "name a rule with --method"),)
    found_levels = give_lookups(
        made.plan, model, sites, wanted, wish, table.tensors, feeds, threads=options.threads
    )
    if found_levels:
        made.facts["softmax"] = found_levels
    if options.rounding != "nearest":
        _round_weights(made, model, target, batches, options, progress)
    if states:
        scaled = choose_state_scales(model, states, made.plan, table.tensors, feeds, threads=options.threads)
        made.plan.states = scaled.states
        made.facts["states"] = scaled.facts
    if options.bias_correction == "auto":
        _correct_biases(made, model, feeds, options.threads, progress)
    return made


def _given_plan(model: ir.Model, target: Target, batches: Split | Source, options: CompileOptions) -> QuantPlan:
    if options.include or options.exclude or options.exclude_op:
        raise UsageError("a plan says itself what is quantized", where="--plan",
                         hint="edit the plan, or leave out --include and --exclude")  # fmt: skip
    assert options.plan is not None
    plan = QuantPlan.load(options.plan)
    check_plan(plan, model, target, str(options.plan))
    if plan.rounding and options.calib is None:
        raise UsageError("the plan's weights were rounded on data", where=str(options.plan),
                         hint="give the data with --calib, or take the rounding of nodes out of the plan")  # fmt: skip
    if plan.rounding:
        for way in sorted({*plan.rounding.values()}):
            only = [name for name, own in plan.rounding.items() if own == way]
            found, skipped = codes_on_data(model, plan, target, batches, ways=[way], only=only, threads=options.threads)
            plan.codes |= found[way]
            if skipped:
                reason = next(iter(skipped))
                raise UsageError(f"a weight that the plan rounds on data cannot be: {reason}", where=str(options.plan))
    else:
        for _ in batches:
            pass
    return plan


def _round_weights(
    made: Planned,
    model: ir.Model,
    target: Target,
    batches: Split | Source,
    options: CompileOptions,
    progress: Callable[[], None],
) -> None:
    """Codes chosen on data go into the plan."""
    source = batches.source if isinstance(batches, Split) else batches
    assert options.rounding != "nearest"
    if why := why_not_measured(model, source):
        finding = Diagnostic("QC208", Severity.WARNING, "--rounding", f"weights are rounded to the nearest: {why}")
        made.diagnostics = (*made.diagnostics, finding)
        return
    release_freed()
    found = round_weights(
        model, made.plan, target, batches, options.rounding, threads=options.threads, progress=progress
    )
    made.plan.codes, made.plan.rounding = found.codes, dict.fromkeys(found.codes, found.way)
    made.facts["rounding"] = found.facts


def _correct_biases(
    made: Planned, model: ir.Model, feeds: Sequence[Feeds], threads: int, progress: Callable[[], None]
) -> None:
    """Corrections of biases go into the plan, where they pay."""
    release_freed()
    found = estimate_biases(model, made.plan, feeds, threads=threads, progress=progress)
    made.plan.biases = found.biases
    made.facts["bias_correction"] = found.facts
