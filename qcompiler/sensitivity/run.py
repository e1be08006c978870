"""`measure_sensitivity`: model and calibration data to layers by what they lose, as a compile would quantize them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from qcompiler.analysis.open_set import open_set
from qcompiler.analysis.options import SYNTHETIC
from qcompiler.analysis.samples import samples_in, samples_of
from qcompiler.calibration.data import Source, input_specs, open_source
from qcompiler.calibration.masks import without_padding
from qcompiler.calibration.split import hold_back
from qcompiler.chosen_target import target_for
from qcompiler.diagnostics import DiagnosticLog
from qcompiler.errors import CalibrationError, UnsupportedError
from qcompiler.filters import node_precisions, nodes_kept_float
from qcompiler.graph import is_float, weight_bytes
from qcompiler.options import CompileOptions
from qcompiler.passes.normalize.name_everything import NameEverything
from qcompiler.passes.precision.carry_float32 import refuse_bfloat16
from qcompiler.passes.quant.node_groups import node_groups
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.quant.switched_model import SwitchedModel
from qcompiler.pipeline import Pipeline
from qcompiler.planning import TUNING_BYTES, choose_plan
from qcompiler.progress import Progress, Silent
from qcompiler.reading import load_model
from qcompiler.sensitivity.measure import measure_layers
from qcompiler.sensitivity.result import LayerSensitivity, Metric, Unit
from qcompiler.sensitivity.subject import refuse_what_is_apart, rewritten
from qcompiler.session import Arrays, Feeds

SAMPLES = 8
"""That layers are measured on, unless asked otherwise."""


def measure_sensitivity(
    given: str | Path | ir.Model,
    options: CompileOptions,
    *,
    unit: Unit = "node",
    metric: Metric = "sqnr",
    samples: int = SAMPLES,
    progress: Progress | None = None,
) -> LayerSensitivity:
    """Measure every layer that a compile with these options would quantize, weights and activations.

    The model is rewritten, its weights rounded and its probabilities looked up as that compile would do it. Ranges come
    from the calibration data less what is held back, by the rule that suits the model best with all layers quantized;
    layers are judged on up to `samples` of the samples held back, or of `options.validate`.

    Args:
        given: A path, or a model in memory, which is left as it is.
        options: Those on the emitted graph and on gates are not looked at; `float_share` counts for the rewrites, and
            keeps no layer from being measured.

    Raises:
        UsageError: Options on bias correction, states between calls, or a plan, which concern all layers together.
        CalibrationError: No data, or data that is misshapen or not finite.
        UnsupportedError: Nothing is quantizable, no output is float, or weights are too large to be held twice.
        QcompileError: As reading the model.
    """
    if options.calib is None:
        raise CalibrationError("no calibration data", hint=f"give --calib D; --calib {SYNTHETIC} makes inputs up")
    refuse_what_is_apart(options)
    progress, log = progress or Silent(), DiagnosticLog()
    target = target_for(options)
    where = "" if isinstance(given, ir.Model) else str(given)
    progress.phase("read")
    model = given.clone() if isinstance(given, ir.Model) else load_model(Path(given))
    refuse_bfloat16(model)
    if not model.graph.inputs:
        raise UnsupportedError("the model has no inputs, its outputs are constants", where=where or None,
                               hint="nothing to measure")  # fmt: skip
    model, _ = Pipeline([NameEverything()]).run(model)
    source = open_set(options.calib, model, options, log)
    if not any(is_float(output) for output in model.graph.outputs):
        raise UnsupportedError("no output is float: there is nothing to judge layers by", where=where or None)
    if (size := weight_bytes(model)) > TUNING_BYTES:
        raise UnsupportedError(f"{size / 2**30:.1f} GiB of weights would be held twice", where=where or None,
                               hint=f"up to {TUNING_BYTES / 2**30:g} GiB can be measured")  # fmt: skip
    progress.phase("rewrite")
    subject = rewritten(model, target, source, options, progress)
    model, rewrites = subject.model, dict(subject.rewrites)
    log.extend(subject.diagnostics)
    sites = select_sites(model, target.placement, nodes_kept_float(model, options), node_precisions(model, options))
    split = hold_back(source) if options.validate is None else None
    progress.phase("calibrate")
    everything = replace(options, float_share=0.0)
    made = choose_plan(model, target, sites, source if split is None else split, everything, progress.advance)
    plan = made.plan
    log.extend([*made.diagnostics, *(() if split is None else split.diagnostics)])
    if not plan.nodes:
        raise UnsupportedError("nothing here would be quantized", where=where or None, hint=plan.why_nothing())
    chosen = {"rounding": len(plan.rounding), "softmax": len(plan.lookups)}
    rewrites |= {name: count for name, count in chosen.items() if count}
    feeds = _judges(model, () if split is None else split.validation, source, options, samples)
    switched = SwitchedModel(model, plan, feeds, threads=options.threads, weights=True)
    layers: Sequence[tuple[str, ...]] = [(name,) for name in plan.nodes]
    if unit == "group":
        layers = node_groups(model, plan.nodes, whole_attention=target.placement.whole_attention)
    progress.phase("measure", 2 * len(layers))
    op_types = {str(node.name): node.op_type for node in model.graph}
    found = measure_layers(switched, layers, op_types, metric, progress.advance)
    progress.done()
    count = source.count if split is None else split.calibration_count
    return LayerSensitivity(
        Path(where).name, target.name, options.bits, unit, metric,
        {"source": source.name, "samples": count, "fingerprint": source.fingerprint},
        len(feeds), found, tuple(log), rewrites,
    )  # fmt: skip


def _judges(
    model: ir.Model, held_back: Sequence[Arrays], source: Source, options: CompileOptions, count: int
) -> list[Feeds]:
    """Single samples, in order, without padding."""
    if options.validate is None:
        apart = [sample for feed in held_back for sample in samples_in(feed, source.inputs)]
    else:
        given = open_source(options.validate, input_specs(model), preprocess=options.preprocess, max_samples=count)
        apart = list(samples_of(given))
    return [without_padding(sample, source.inputs) for sample in apart[:count]]
