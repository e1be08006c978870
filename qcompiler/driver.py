"""`compile_model`: from an ONNX model to emitted graphs, step by step, in the order in which you read them here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from qcompiler import registry
from qcompiler.calibration.data import Source, input_specs, open_source
from qcompiler.calibration.feeds import slice_rows
from qcompiler.calibration.range_watch import RangeWatch
from qcompiler.calibration.split import hold_back
from qcompiler.calibration.summaries import summarise
from qcompiler.calibration.synthetic import synthetic_batches
from qcompiler.calibration.table import CalibrationTable
from qcompiler.chosen_target import target_for
from qcompiler.diagnostics import DiagnosticLog, Severity
from qcompiler.dumps import dump_hook
from qcompiler.emitter import EmitContext, Legalized
from qcompiler.equivalence import EquivalenceGuard, make_guard, undone_passes
from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.evaluation.compare import Comparison, compare_emitted, missed_gates
from qcompiler.evaluation.layers import layer_outputs
from qcompiler.filters import node_precisions, nodes_kept_float
from qcompiler.float_passes import float_passes, run_float_passes
from qcompiler.memory import release_freed
from qcompiler.options import CompileOptions
from qcompiler.passes.equalize.run import equalize
from qcompiler.passes.normalize.name_everything import NameEverything
from qcompiler.passes.precision.carry_float32 import refuse_bfloat16
from qcompiler.passes.quant.correct_biases import CorrectBiases
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.quantize_states import QuantizeStates
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.rotate.run import rotate
from qcompiler.passes.sites.recipe import choose_recipe
from qcompiler.passes.softmax.insert_lookups import InsertLookups
from qcompiler.passes.split_units.run import split_units
from qcompiler.pipeline import Hook, PassRun, Pipeline, diagnostics_of
from qcompiler.plan import QuantPlan
from qcompiler.planning import choose_plan
from qcompiler.progress import Progress, Silent
from qcompiler.reading import load_model
from qcompiler.result import CompileResult
from qcompiler.saving import save_model
from qcompiler.session import Arrays, Feeds, Session
from qcompiler.state_codes import encode_states, with_float_states
from qcompiler.target import Target

GOLDEN_SAMPLES = 3


def compile_model(
    model: str | Path | ir.Model, options: CompileOptions, *, progress: Progress | None = None
) -> CompileResult:
    """Compile one model.

    Args:
        model: A path, or a model in memory, which is left as it is.

    Raises:
        QcompileError: See `errors`; quality gates do not raise but are listed in the result.
    """
    run = _Run(options, target_for(options), progress or Silent())
    return run.compile(model)


@dataclass(slots=True)
class _Run:
    """State of one compile."""

    options: CompileOptions
    target: Target
    progress: Progress
    log: DiagnosticLog = field(default_factory=DiagnosticLog)
    runs: list[PassRun] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)

    def compile(self, given: str | Path | ir.Model) -> CompileResult:
        options, target = self.options, self.target
        carrier = options.carrier or target.carrier
        source_path = "" if isinstance(given, ir.Model) else str(given)
        with self.phase("read"):
            model = given.clone() if isinstance(given, ir.Model) else load_model(Path(given))
            refuse_bfloat16(model)
            if not model.graph.inputs:
                raise UnsupportedError("the model has no inputs, its outputs are constants", where=source_path or None,
                                       hint="nothing to compile")  # fmt: skip
            model, named = Pipeline([NameEverything()], self.hooks()).run(model)  # onnxruntime refuses equal node names
            self.runs += named
            source = self.calibration_source(model)
            guard = make_guard(model, source.peek(), options)
        with self.phase("normalize"):
            model = self.float_passes(model, guard)
        with self.phase("split"):
            parted = split_units(model, target, source, options, guard, self.hooks(), self.progress)
            model = parted.model
            self.runs += parted.runs
            self.log.extend(parted.diagnostics)
        with self.phase("recipe"):
            bits, kept = node_precisions(model, options), nodes_kept_float(model, options)
            recipe = choose_recipe(model, target, source, options, bits, kept)
        self.log.extend(recipe.diagnostics)
        options = self.options = replace(options, equalize=recipe.equalize, rotate=recipe.rotate)
        with self.phase("rotate"):
            watch = RangeWatch(model, source, options)
            rotated = rotate(model, target, source, options, guard, self.hooks(), self.progress)
            model = rotated.model
            self.runs += rotated.runs
            self.log.extend(rotated.diagnostics)
        method = recipe.equalize_behind(rotated.facts, options.goal_sqnr)
        options = self.options = replace(options, equalize=method)
        with self.phase("equalize"):
            equalized = equalize(model, target, source, method, options, guard, self.hooks(), self.progress)
            model = equalized.model
            self.runs += equalized.runs
            self.log.extend(equalized.diagnostics)
            rewritten = watch.changes(model) if equalized.parameters or rotated.rotations else ()
        reference = model.clone()

        with self.phase("calibrate"):
            bits = node_precisions(model, options)
            sites = select_sites(model, target.placement, nodes_kept_float(model, options), bits)
            split = hold_back(source) if options.validate is None else None
            batches = source if split is None else split
            made = choose_plan(model, target, sites, batches, options, lambda: self.progress.advance(1))
            plan, self.tuning = made.plan, made.facts
            self.log.extend(made.diagnostics)
            histograms = {} if made.table is None else summarise(made.table.tensors, plan, sites.sources)
            plan.units = parted.units
            plan.equalize, plan.rotate = equalized.parameters, rotated.rotations
        if recipe.facts:
            self.tuning["recipe"] = recipe.facts | {"equalize": method}
        if parted.facts:
            self.tuning["units"] = parted.facts
        if rotated.facts:
            self.tuning["rotate"] = rotated.facts
        if equalized.facts:
            self.tuning["equalize"] = equalized.facts
        calibration = self.describe_calibration(source, made.table)
        made.table = None  # its histograms take more memory than all that follows of it
        if split is not None:
            self.log.extend(split.diagnostics)
            calibration |= {"samples": split.calibration_count, "held_back": split.validation_count}
            validation: Sequence[Feeds] = split.validation
            seen = source.shapes
        else:
            apart = open_source(options.validate, input_specs(reference), preprocess=options.preprocess)
            validation = list(apart)
            seen = [*source.shapes, *apart.shapes]
        if not plan.nodes:
            self.log.add("QC301", Severity.WARNING, "", "nothing is quantized", plan.why_nothing())

        with self.phase("quantize"):
            acting = [
                CorrectBiases(plan), QuantizeWeights(plan), InsertQdq(plan), InsertLookups(plan), QuantizeStates(plan),
            ]  # fmt: skip
            model, runs = Pipeline(acting, self.hooks()).run(model)
            self.runs += runs
        with self.phase("emit"):
            samples = [encode_states(feeds, plan.states) for feeds in validation[:2]]
            context = EmitContext(reference, samples, carrier, options.portable, options.shapes, seen)
            host = self.emit_host(model, context) if target.host else None
            emitter = registry.make_emitter(target)
            emitted = self.legalize(emitter, model, context)
            extra = emitter.extra_files(emitted.model, context)
        check = self.check(emitter, emitted.model)
        verification, golden = self.verify(reference, emitted, host, plan, validation)
        self.progress.done()
        return CompileResult(
            source=source_path,
            target=target,
            options=options,
            model=emitted.model,
            host=None if host is None else host.model,
            reference=reference,
            plan=plan,
            calibration=calibration,
            runs=tuple(self.runs),
            diagnostics=tuple(self.log),
            facts={"model": emitted.facts} | ({} if host is None else {"host": host.facts}) | {"plan": self.tuning},
            verification=verification,
            golden=golden,
            extra_files=extra,
            check=check,
            seconds=self.seconds,
            gates=(*missed_gates(verification.items(), options), *undone_passes(self.runs, options)),
            certificates=guard.kept(),
            histograms=histograms,
            rewritten=rewritten,
        )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase and tell the progress about it."""
        self.progress.phase(name, None)
        start = time.perf_counter()
        yield
        release_freed()
        self.seconds[name] = time.perf_counter() - start

    # --- data --------------------------------------------------------------------------------------------------------

    def calibration_source(self, model: ir.Model) -> Source:
        """The user's data, or synthetic inputs with a loud warning."""
        options = self.options
        if options.calib is not None:
            return open_source(
                options.calib, input_specs(model), preprocess=options.preprocess, max_samples=options.max_samples
            )
        self.log.add("QC202", Severity.WARNING, "", "no calibration data: scales come from synthetic inputs",
                     "accuracy on real data is unknown; give --calib")  # fmt: skip
        shapes = {name: profile[1] for name, profile in options.shapes.items()}
        return synthetic_batches(model, seed=options.seed, shapes=shapes or None)

    def describe_calibration(self, source: Source, table: CalibrationTable | None) -> dict[str, Any]:
        """What the report says of the data."""
        described: dict[str, Any] = {
            "source": source.name, "samples": source.count, "fingerprint": source.fingerprint,
            "method": self.options.method,
        }  # fmt: skip
        if self.options.method == "percentile":
            described["percentile"] = self.options.percentile
        if table is not None and table.notes:
            described["notes"] = list(table.notes)
        return described

    # --- graphs ------------------------------------------------------------------------------------------------------

    def hooks(self) -> tuple[Hook, ...]:
        """Dumps that the user asked for."""
        wanted, folder = self.options.dump_after, self.options.dump_dir
        return (dump_hook(wanted, folder),) if wanted and folder is not None else ()

    def float_passes(self, model: ir.Model, guard: EquivalenceGuard) -> ir.Model:
        """See `run_float_passes`; names of dumps are checked before anything runs."""
        edits, target = self.options.passes, self.target
        named = [item.name for part in float_passes(target, edits) for item in part]
        acting = ("quantize-weights", "insert-qdq", "quantize-states")
        known = {*named, *acting, *registry.pass_names()}
        for name in self.options.dump_after:
            if name not in known:
                raise registry.unknown("pass", name, known)
        model, runs = run_float_passes(model, target, guard, edits=edits, hooks=self.hooks())
        self.runs += runs
        self.log.extend(diagnostics_of(runs))
        return model

    def emit_host(self, model: ir.Model, context: EmitContext) -> Legalized:
        """The same plan for onnxruntime on the host."""
        target = registry.find_target(self.target.host)
        host_context = replace(context, carrier="fp32")
        return self.legalize(registry.make_emitter(target), model.clone(), host_context)

    def legalize(self, emitter: Any, model: ir.Model, context: EmitContext) -> Legalized:
        """The backend's form; findings go to the log."""
        emitted: Legalized = emitter.legalize(model, context)
        self.runs += emitted.runs
        self.log.extend(emitted.diagnostics)
        return emitted

    # --- checks ------------------------------------------------------------------------------------------------------

    def check(self, emitter: Any, model: ir.Model) -> dict[str, Any]:
        """The runtime's own tools on the emitted graph."""
        import tempfile

        if self.options.build_check == "off":
            return {}
        with self.phase("check"), tempfile.TemporaryDirectory(prefix="qcompile-") as folder:
            path = Path(folder) / "model.onnx"
            save_model(model, path)
            verdict = dict(emitter.check(path))
        if self.options.build_check == "on" and verdict.get("verdict", "absent") == "absent":
            raise UsageError("the build check needs NVIDIA's library", where="--build-check",
                             hint="pip install 'qcompile-onnx[tensorrt]'")  # fmt: skip
        if verdict.get("verdict") == "refused":
            message = "; ".join(str(line) for line in verdict.get("messages", ())[:2]) or "no message"
            self.log.add("QC501", Severity.ERROR, "", f"refused by {verdict.get('tool')}: {message}")
        return verdict

    def verify(
        self,
        reference: ir.Model,
        emitted: Legalized,
        host: Legalized | None,
        plan: QuantPlan,
        validation: Sequence[Feeds],
    ) -> tuple[dict[str, Comparison], tuple[tuple[Feeds, Arrays], ...]]:
        """Compare what was emitted with the float source on samples that calibration did not see."""
        golden_feeds = [slice_rows(feeds, input_specs(reference), 0, 1) for feeds in validation[:GOLDEN_SAMPLES]]
        session = Session(reference, threads=self.options.threads)
        golden = tuple((encode_states(feeds, plan.states), session.run_sample(feeds)) for feeds in golden_feeds)
        del session
        if not self.options.verify:
            return {}, golden
        with self.phase("verify"):
            layers = layer_outputs(reference, plan)
            model, beside = emitted.model, None if host is None else host.model
            if plan.states:
                model = with_float_states(model, plan.states)
                beside = None if beside is None else with_float_states(beside, plan.states)
            found = compare_emitted(
                reference, model, beside, validation, layers=layers, threads=self.options.threads
            )
        return found, golden
