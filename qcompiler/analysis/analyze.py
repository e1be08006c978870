"""`analyze_model`: statistics by set, ranges by draw, fidelity by range, verdicts, in this order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qcompiler import registry
from qcompiler.analysis.collect import SetStatistics, Thresholds, collect
from qcompiler.analysis.draws import Draws, default_sizes
from qcompiler.analysis.fidelity import ActivationFidelity, Floats, weights_only_decibels
from qcompiler.analysis.ideal_channels import with_ideal_channels
from qcompiler.analysis.open_set import open_set
from qcompiler.analysis.options import SYNTHETIC, AnalysisOptions
from qcompiler.analysis.prepare import Subject, prepare
from qcompiler.analysis.result import Analysis, OutlierCost, RangeSpread, RuleResult
from qcompiler.analysis.samples import CalibrationSet, hold_back, samples_of, survey
from qcompiler.analysis.set_spread import kendall_tau
from qcompiler.analysis.verdicts import verdicts
from qcompiler.calibration.data import input_specs, open_source
from qcompiler.calibration.masks import without_padding
from qcompiler.calibration.thresholds import Method
from qcompiler.diagnostics import DiagnosticLog, Severity
from qcompiler.errors import CalibrationError, UsageError
from qcompiler.graph import is_float
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.progress import Progress, Silent
from qcompiler.reading import load_model
from qcompiler.session import Feeds
from qcompiler.target import Target


def analyze_model(
    given: str | Path | ir.Model, options: AnalysisOptions, *, progress: Progress | None = None
) -> Analysis:
    """Analyze one model.

    Args:
        given: A path, or a model in memory, which is left as it is.

    Raises:
        UsageError, ModelError, CalibrationError: What the user can fix.
    """
    if not options.sets:
        raise CalibrationError("no calibration data", hint="give --calib D, once for each set; "
                               f"--calib {SYNTHETIC} makes inputs up")  # fmt: skip
    progress, log = progress or Silent(), DiagnosticLog()
    target = registry.find_target(options.base.target)
    progress.phase("read")
    model = given.clone() if isinstance(given, ir.Model) else load_model(Path(given))
    sources = {name: open_set(data, model, options.base, log, name) for name, data in options.sets.items()}
    subject = prepare(model, target, options.base, next(iter(sources.values())).peek(), options.tensors)
    progress.phase("count samples")
    surveyed = [survey(name, source) for name, source in sources.items()]
    feeds, sets = _judges(surveyed, options, subject, log)
    draws = Draws(len(sets[0].used), _sizes(options, len(sets[0].used)), options.seeds)
    progress.phase("run samples", len(sets) * draws.samples)
    statistics = [
        collect(
            subject, item, draws, options.methods, qmax=target.activation.qmax, percentile=options.base.percentile,
            threads=options.base.threads, advance=progress.advance,
        )
        for item in sets
    ]  # fmt: skip
    _note_lengths(statistics, log)
    found = Analysis(
        "" if isinstance(given, ir.Model) else Path(given).name, target.name,
        {item.name: _describe(item) for item in sets}, tuple(statistics),
        (len(feeds), "--validate" if options.base.validate is not None else sets[0].name), draws.sizes, draws.seeds,
        (), None, None, {}, options.base.goal_sqnr,
    )  # fmt: skip
    if not any(is_float(output) for output in subject.model.graph.outputs):
        log.add("QC213", Severity.WARNING, "", "no output is float: ranges are compared, fidelity is not")
    elif subject.sources:
        found = _measured(found, subject, target, options, feeds, progress)
    progress.done()
    return replace(found, verdicts=verdicts(found), diagnostics=tuple(log))


def _judges(
    surveyed: Sequence[CalibrationSet], options: AnalysisOptions, subject: Subject, log: DiagnosticLog
) -> tuple[list[Feeds], list[CalibrationSet]]:
    """The samples that quality is judged on, and sets that contain none of them."""
    if options.base.validate is not None:
        source = open_source(options.base.validate, input_specs(subject.model), preprocess=options.base.preprocess,
                             max_samples=options.evaluated)  # fmt: skip
        known = survey("--validate", source)
        sets, _ = hold_back(surveyed, options.evaluated, log, known.digests)
        return [without_padding(sample, source.inputs) for sample in samples_of(source)], sets
    sets, held = hold_back(surveyed, options.evaluated, log)
    wanted = set(held)
    numbered = itertools.islice(enumerate(samples_of(sets[0].source)), max(held) + 1)
    inputs = sets[0].source.inputs
    return [without_padding(sample, inputs) for index, sample in numbered if index in wanted], sets


def _sizes(options: AnalysisOptions, samples: int) -> tuple[int, ...]:
    if options.sizes is None:
        return default_sizes(samples)
    if max(options.sizes) > samples:
        message = f"{max(options.sizes)} samples are asked for, {samples} are left in the smallest set"
        raise UsageError(message, where="--samples", hint="give more data, or smaller numbers")
    return tuple(sorted(set(options.sizes)))


def _measured(
    found: Analysis, subject: Subject, target: Target, options: AnalysisOptions, feeds: Sequence[Feeds],
    progress: Progress,
) -> Analysis:  # fmt: skip
    """The analysis with fidelities."""
    threads = options.base.threads
    progress.phase("judge ranges", len(options.methods) * found.seeds * (len(found.sizes) + len(found.sets) - 1))
    start = found.sets[0].thresholds[options.methods[0]][found.sizes[-1], 0]
    judge = ActivationFidelity(subject, target, start, feeds, threads=threads)
    rules = tuple(_judge_rule(found, judge, method, progress) for method in options.methods)
    found = replace(found, rules=rules, tau=_taus(found.sets, rules))
    progress.phase("judge weights and channels")
    typical = _typical(found)
    plan, before = judge.plan, float(judge.decibels(typical).mean())
    del judge  # and its session, before the next one
    return replace(
        found,
        weights_only=weights_only_decibels(subject, plan, feeds, threads=threads),
        outliers=_outlier_cost(found, subject, target, feeds, typical, before, threads),
    )


def _judge_rule(found: Analysis, judge: ActivationFidelity, method: Method, progress: Progress) -> RuleResult:
    top = found.sizes[-1]

    def measure(statistics: SetStatistics, size: int) -> Floats:
        rows = []
        for seed in range(found.seeds):
            rows.append(judge.decibels(statistics.thresholds[method][size, seed]))
            progress.advance()
        return np.stack(rows)

    sweep = {size: measure(found.sets[0], size) for size in found.sizes}
    decibels = np.stack([sweep[top], *(measure(item, top) for item in found.sets[1:])])
    return RuleResult(method, decibels, sweep, _range_spread(found.sets, method, found.sizes, found.seeds))


def _taus(sets: Sequence[SetStatistics], rules: Sequence[RuleResult]) -> dict[str, float | None]:
    scores = np.array([rule.decibels.mean(axis=(1, 2)) for rule in rules])  # [rule, set]
    return {
        item.name: kendall_tau(list(scores[:, 0]), list(scores[:, index])) for index, item in enumerate(sets) if index
    }


def _range_spread(sets: Sequence[SetStatistics], method: Method, sizes: Sequence[int], seeds: int) -> RangeSpread:
    by_set = [_geometric_means([item.thresholds[method][sizes[-1], seed] for seed in range(seeds)]) for item in sets]
    within, growth = {}, {}
    for size in sizes:
        draws = [sets[0].thresholds[method][size, seed] for seed in range(seeds)]
        ratios = list(_ratios(draws).values())
        within[size] = (float(np.median(ratios)), float(max(ratios)))
        sized = [float(np.mean([np.log(draw[name] / by_set[0][name]) for name in by_set[0]])) for draw in draws]
        low, mean, high = np.exp(np.array([min(sized), sum(sized) / seeds, max(sized)]))
        growth[size] = (float(low), float(mean), float(high))
    if len(sets) < 2:
        return RangeSpread(within, None, "", growth)
    by_name = _ratios(by_set)
    worst = max(by_name, key=lambda name: by_name[name])
    return RangeSpread(within, (float(np.median(list(by_name.values()))), by_name[worst]), worst, growth)


def _geometric_means(draws: Sequence[Thresholds]) -> Thresholds:
    shared = set.intersection(*(set(item) for item in draws))
    return {name: float(np.exp(np.mean([np.log(item[name]) for item in draws]))) for name in shared}


def _ratios(draws: Sequence[Mapping[str, float]]) -> dict[str, float]:
    shared = sorted(set.intersection(*(set(item) for item in draws)))
    return {name: max(item[name] for item in draws) / min(item[name] for item in draws) for name in shared}


def _typical(found: Analysis) -> Thresholds:
    """The best rule's ranges of the first set, averaged over its largest draws."""
    best, top = found.best, found.sizes[-1]
    assert best is not None  # the caller has measured rules
    return _geometric_means([found.sets[0].thresholds[best.method][top, seed] for seed in range(found.seeds)])


def _outlier_cost(
    found: Analysis, subject: Subject, target: Target, feeds: Sequence[Feeds], typical: Thresholds, before: float,
    threads: int,
) -> OutlierCost | None:  # fmt: skip
    """What channel ranges would win beside `before`; None where no quantized activation has outlier channels."""
    peaks = {
        name: item.channels.absmax
        for name, item in found.sets[0].tensors.items()
        if name in subject.sources and item.channels is not None and item.channels.outliers and item.channels.median
    }
    own = {name: typical[subject.sources[name]] for name in peaks}
    even, made = with_ideal_channels(subject.model, peaks, own)
    if not made:
        return None
    sites = select_sites(even, target.placement, subject.kept_float)
    thresholds = {**typical, **{new: own[name] for name, new in made.items()}}
    judge = ActivationFidelity(replace(subject, model=even, sites=sites), target, thresholds, feeds, threads=threads)
    return OutlierCost(tuple(made), before, float(judge.decibels(thresholds).mean()))


def _describe(item: CalibrationSet) -> dict[str, object]:
    return {"source": item.source.name, "samples": len(item.digests), "used": len(item.used),
            "fingerprint": item.source.fingerprint}  # fmt: skip


def _note_lengths(statistics: Sequence[SetStatistics], log: DiagnosticLog) -> None:
    sizes = {item.name: item.elements for item in statistics}
    if max(sizes.values()) > 1.1 * min(sizes.values()):
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        log.add("QC212", Severity.WARNING, "", f"the sets differ in size ({listed} elements): larger sets have larger "
                "extremes", "give samples of equal length")  # fmt: skip
