"""Measure a model as it would be after shifts and scales, without rewriting it each time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.runner import calibrate
from qcompiler.calibration.thresholds import least_error_threshold
from qcompiler.graph import LAYOUT_OPS, FreshNames, constant_array
from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.equalize.sample_rows import Opened, Rows, input_axis, values_of
from qcompiler.passes.equalize.trial_graph import add_behind, add_input, free_zero_point, surround
from qcompiler.passes.equalize.trial_weights import moved_by, rounded_weights
from qcompiler.passes.quant.choose_ranges import FEWEST_SAMPLES, POWERS, candidates
from qcompiler.passes.quant.keep_sensitive_float import WORTH
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.racing import race, standard_error
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.quant.switched_model import NO_NOISE, SwitchedModel, decibels
from qcompiler.passes.quant.zero_points import choose_zero_points, may_be_one_sided, zero_point_of
from qcompiler.passes.sites.records import Kind, Reals, Site
from qcompiler.plan import QuantPlan
from qcompiler.precision import ALL_8_BITS, Precisions
from qcompiler.session import Arrays, Feeds, Session
from qcompiler.target import Target

TOLD_APART = 0.3
"""Standard error in dB of the differences between sets of rewrites."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A session with the factors and weights of some rewrites, and the scales by clipping rule that go with them.

    Attributes:
        exact: The same with weights in float, as tuning measures.
    """

    session: SwitchedModel
    exact: SwitchedModel
    scales: Mapping[float, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Measured:
    """SQNR in dB of the outputs, weights quantized too, by the clipping rule that suits best.

    Attributes:
        power: The rule.
        total: Everything is quantized.
        judged: Without the attention products, where they may stay float; else as `total`.
        tuned: Which of both tuning will come to.
        levels: `judged` by sample.
    """

    power: float
    total: float
    judged: float
    tuned: float
    levels: tuple[float, ...]

    def gains(self, other: Measured, least: float) -> bool:
        """Whether this is better than the other by so many dB, and by the standard error of the difference.

        What counts is what tuning comes to, or what is gained both with and without the attention products in float:
        outputs that come to the goal without float products are not worse than others that need them.
        Samples are paired; a deviation of 1 dB is taken for granted, which few samples that agree do not rule out.
        """
        differences = [mine - its for mine, its in zip(self.levels, other.levels, strict=False)]
        error = standard_error(differences, 1.0) if len(differences) > 1 else 1.0
        gained = fmean(differences) if differences else self.judged - other.judged
        whole, tuned = (
            gained + (mine - self.judged) - (its - other.judged)
            for mine, its in ((self.total, other.total), (self.tuned, other.tuned))
        )
        return max(tuned, min(whole, gained)) >= max(least, error)


class Trials:
    """One session whose shifts, scales and weights are inputs.

    In front of each reader of a site, x -> Q -> DQ becomes (x - z) / s -> Q -> DQ -> * s, and z W is added behind it:
    codes and errors are those of the rewritten model, and with z = 0, s = 1 those of the model as it is. Weights are
    fed as Q(diag(s) W) / s. Nothing is compiled or calibrated anew for a trial; ranges and zero points of shifted and
    scaled tensors come from sampled rows.

    Args:
        model: In canonical form; left as it is.
        sites: That may be rewritten; `seen` has their rows.
        shown: Samples that ranges come from.
        feeds: Samples to measure on.
        goal: In dB; tuning keeps nothing float above it.
        share: Of the multiply-adds that may stay float. No rewrite takes away the noise of the attention products,
            which hides what is gained, and tuning does where they fit.
        zero_points: Whether one-sided tensors get one, where the target takes it.
    """

    def __init__(
        self,
        model: ir.Model,
        target: Target,
        sites: Sequence[Site],
        seen: Mapping[str, Rows],
        shown: Sequence[Feeds],
        feeds: Sequence[Feeds],
        *,
        float_nodes: frozenset[str] = frozenset(),
        precisions: Precisions = ALL_8_BITS,
        goal: float = 25.0,
        share: float = 0.1,
        zero_points: bool = False,
        threads: int = 0,
    ) -> None:
        self._model, self._target, self._seen, self._goal, self._threads = model, target, seen, goal, threads
        self._float_nodes, self._precisions = float_nodes, precisions
        self._heads: dict[str, tuple[int, ...]] = {}
        self._sites = {site.name: site for site in sites}
        self._chosen = chosen = select_sites(model, target.placement, float_nodes, precisions)
        table = calibrate(model, sorted(set(chosen.sources.values())), shown, threads=threads)
        self._one_sided = may_be_one_sided(model, target, chosen) if zero_points else frozenset()
        if zero_points:
            chosen.zero_points = choose_zero_points(model, target, chosen, table.tensors)
        thresholds = candidates(table.tensors, chosen.steps)
        self._plan = make_plan(model, target, chosen, thresholds[2.0])
        self._scales = {
            power: _scales(make_plan(model, target, chosen, found, self._plan.weights))
            for power, found in thresholds.items()
        }
        self._switched = SwitchedModel(model, self._plan, feeds, threads=threads, prepare=self._prepare)
        rounded = rounded_weights(model, target, self._fed, {}, float_nodes, precisions)
        self._rounded: Arrays = {self._fed[name]: array for name, array in rounded.items()}
        self._known: dict[str, tuple[ShiftScale, Arrays, dict[float, dict[str, float]]]] = {}
        self._every = frozenset(self._switched.nodes)
        products = self._every - self._plan.weights.keys()
        costs = self._switched.costs
        fit = sum(costs[name] for name in products) <= share * sum(costs.values())
        self._judged = self._every - products if fit and products != self._every else self._every

    def measure(self, tried: Mapping[str, Mapping[str, ShiftScale]]) -> dict[str, Measured]:
        """The outputs with each of these rewrites.

        All are raced with all clipping rules, sample by sample, so that what is clearly worse costs two samples; then
        once more with the rule of each, until they are told apart.
        """
        trials = {name: self._trial(parameters) for name, parameters in tried.items()}
        known: dict[tuple[str, float, int], float] = {}

        def level(candidate: tuple[str, float], index: int) -> float:
            name, power = candidate
            if (name, power, index) not in known:
                noise = trials[name].session.sample_noise(index, self._judged, trials[name].scales[power])
                known[name, power, index] = decibels(max(noise, NO_NOISE))
            return known[name, power, index]

        every = [(name, power) for name in tried for power in self._scales]
        count = self._switched.samples
        first = race(every, level, count, fewest=FEWEST_SAMPLES).measured
        best = [(name, _best({power: first[name, power] for power in self._scales})) for name in tried]
        second = race(best, level, count, fewest=FEWEST_SAMPLES, enough=TOLD_APART).measured
        return {
            name: self._measured(trials[name], power, second[name, power]) for name, power in best
        }

    def opened(self, parameters: Mapping[str, ShiftScale], power: float) -> Opened:
        """The model with these rewrites and everything quantized by this rule, under the names of the float model."""
        trial = self._trial(parameters)

        def opened(names: Sequence[str]) -> Callable[[Feeds], Arrays]:
            session = Session(trial.session.graph, names, threads=self._threads)
            return lambda sample: session.run(trial.session.feed(sample, self._every, trial.scales[power]))

        return opened

    def _measured(self, trial: Trial, power: float, levels: Sequence[float]) -> Measured:
        judged = fmean(levels)
        if self._judged == self._every:
            return Measured(power, judged, judged, judged, tuple(levels))
        samples, scales = min(len(levels), FEWEST_SAMPLES), trial.scales[power]
        lost = fmean(levels[:samples]) - decibels(trial.session.noise(self._every, scales, samples=samples))
        whole, parted = (
            decibels(trial.exact.noise(nodes, scales, samples=samples)) for nodes in (self._every, self._judged)
        )
        left = whole >= self._goal or parted - whole < WORTH
        return Measured(power, judged - lost, judged, judged - lost if left else judged, tuple(levels))

    def _trial(self, parameters: Mapping[str, ShiftScale]) -> Trial:
        fresh = {name: made for name, made in parameters.items() if self._known.get(name, (None,))[0] is not made}
        layers = {str(reader.node.name) for name in fresh for reader in self._sites[name].readers} & self._fed.keys()
        given = (self._model, self._target, layers, fresh, self._float_nodes, self._precisions)
        weights = rounded_weights(*given) if layers else {}
        for name, made in fresh.items():
            self._known[name] = made, *self._behind(name, made, weights)
        inputs, scales = dict(self._rounded), self._scales
        for name in parameters:
            _, fed, steps = self._known[name]
            inputs |= fed
            scales = {power: found | steps[power] for power, found in scales.items()}
        rounded = set(self._fed.values())
        exact = {name: array for name, array in inputs.items() if name not in rounded}
        return Trial(self._switched.given(inputs), self._switched.given(exact), scales)

    def _behind(self, name: str, made: ShiftScale, weights: Arrays) -> tuple[Arrays, dict[float, dict[str, float]]]:
        """What to feed for one site, and the scales of what its readers read.

        No site changes what another feeds: a factor along output channels leaves codes of weights as they are.
        """
        site = self._sites[name]
        tensors = self._tensors(site)
        shift, scale = (item.astype(np.float32) for item in _by_reader(site, made))
        fed: Arrays = {}
        for tensor, form in tensors.items():
            given = shift, scale
            if tensor in self._heads and math.prod(form) != site.channels:  # values before their heads are repeated
                given = made.shift.astype(np.float32), made.scale.astype(np.float32)
            fed[self._shifts[tensor]], fed[self._factors[tensor]] = (item.reshape(form) for item in given)
        for reader in self._sites[name].readers:
            layer = str(reader.node.name)
            if layer in self._offsets:
                form = (-1, *[1] * (-input_axis(reader.node) - 1))
                fed[self._offsets[layer]] = moved_by(reader, shift).reshape(form)
            if layer in self._fed:
                fed[self._fed[layer]] = weights[layer]
        steps: dict[float, dict[str, float]] = {power: {} for power in self._scales}
        known: dict[str, tuple[int, dict[float, float]]] = {}
        for tensor in tensors:
            seen = tensor if tensor in self._seen else name
            known[seen] = known.get(seen) or self._steps(self._seen[seen], shift, scale, tensor)
            zero, found = known[seen]
            steps = {power: steps[power] | {tensor: step} for power, step in found.items()}
            if tensor in self._zeros:
                fed[self._zeros[tensor]] = np.asarray(zero, np.int8)
        values = values_of(site)
        if values is not None and (product := self._product(site)) is not None:
            rows = self._seen[str(values.name)]
            inside = self._steps(rows, made.shift.astype(np.float32), made.scale.astype(np.float32), product)[1]
            steps = {power: steps[power] | {product: step} for power, step in inside.items()}
        return fed, steps

    def _steps(self, rows: Rows, shift: Reals, scale: Reals, tensor: str) -> tuple[int, dict[float, float]]:
        """Zero point, and clipping rule to scale, of the tensor behind shift and scale.

        From sampled rows, with the bounds of all.
        """
        found = Histogram().observe((rows.rows - shift) / scale)
        low, high = (rows.low - shift) / scale, (rows.high - shift) / scale
        found = replace(found, low=min(found.low, float(low.min())), high=max(found.high, float(high.max())))
        source = self._chosen.sources[tensor]
        zero = (zero_point_of(found) or 0) if source in self._one_sided else 0
        count = self._chosen.steps(source) + self._chosen.zero_points.get(source, 0) - zero
        return zero, {power: least_error_threshold(found, power, count) / count for power in POWERS}

    def _tensors(self, site: Site) -> dict[str, tuple[int, ...]]:
        """The quantized tensors whose channels shift and scale change, with the form of a row of channels in them.

        What quantized readers read, and the values as the product with the probabilities reads them.
        """
        found = {
            str(value.name): (-1, *[1] * (-input_axis(reader.node) - 1))
            for reader in site.readers
            if (value := reader.node.inputs[0]) is not None
            and self._plan.nodes.get(str(reader.node.name))  # others have only their weights quantized
        }
        product = self._product(site)
        return found if product is None else found | {product: self._heads[product]}

    def _product(self, site: Site) -> str | None:
        """The values as the quantized product with the probabilities reads them: [batch, heads, positions, size]."""
        if site.kind is not Kind.VALUE:
            return None
        node = site.value.producer()
        while node is not None and node.op_type in LAYOUT_OPS:
            node = node.inputs[0].producer() if node.inputs[0] is not None else None
        value = node.inputs[1] if node is not None else None
        if node is None or value is None or 1 not in self._plan.nodes.get(str(node.name), ()):
            return None
        sizes = list(value.shape) if value.shape is not None else []
        inner = (*sizes[1:-2], 1, *sizes[-1:])
        form = [size if isinstance(size, int) else 1 for size in inner]
        if len(unknown := [place for place, size in enumerate(inner) if not isinstance(size, int)]) == 1:
            form[unknown[0]] = site.channels // math.prod(form)  # exporters leave the number of heads symbolic
        if math.prod(form) not in (site.channels, site.sources):
            return None
        self._heads[str(value.name)] = tuple(form)
        return str(value.name)

    def _prepare(self, switched: ir.Model) -> Arrays:
        """Add the inputs; the contents with which nothing changes."""
        names = FreshNames(switched)
        given: Arrays = {}
        self._shifts: dict[str, str] = {}
        self._factors: dict[str, str] = {}
        self._zeros: dict[str, str] = {}
        self._fed: dict[str, str] = {}
        self._offsets: dict[str, str] = {}
        forms = {tensor: form for site in self._sites.values() for tensor, form in self._tensors(site).items()}
        readers = {str(reader.node.name) for site in self._sites.values() for reader in site.readers}
        for node in list(switched.graph):
            tensor = str(node.inputs[0].name) if node.op_type == "QuantizeLinear" and node.inputs[0] else ""
            if node.name in readers and self._plan.nodes.get(str(node.name)):
                form = [1] * -input_axis(node)
                self._offsets[str(node.name)] = add_behind(node, form, names)
                given[self._offsets[str(node.name)]] = np.zeros(form, np.float32)
            if tensor in forms:
                ones = [1] * len(forms[tensor])
                self._shifts[tensor], self._factors[tensor] = surround(node, ones, tensor in self._heads, names)
                given[self._shifts[tensor]] = np.zeros(ones, np.float32)
                if self._chosen.sources[tensor] in self._one_sided:
                    self._zeros[tensor] = free_zero_point(node, names)
                    zero = self._chosen.zero_points.get(self._chosen.sources[tensor], 0)
                    given[self._zeros[tensor]] = np.asarray(zero, np.int8)
                given[self._factors[tensor]] = np.ones(ones, np.float32)
            if node.name in self._plan.weights and node.op_type in ("MatMul", "Gemm"):
                array = constant_array(node.inputs[1])
                if array is None or array.dtype != np.float32:
                    continue
                fed = add_input(switched.graph, names(f"{node.name}/weight"), array.shape)
                node.replace_input_with(1, fed)
                self._fed[str(node.name)] = str(fed.name)
                given[str(fed.name)] = array
        return given


def _best(levels: Mapping[float, Sequence[float]]) -> float:
    """The rule with the largest mean, of those that were measured most often."""
    longest = max(map(len, levels.values()))
    return max((item for item in levels if len(levels[item]) == longest), key=lambda item: fmean(levels[item]))


def _by_reader(site: Site, made: ShiftScale) -> tuple[Reals, Reals]:
    spread = slice(None) if site.to_source is None else site.to_source
    return made.shift[spread], made.scale[spread]


def _scales(plan: QuantPlan) -> dict[str, float]:
    return {tensor: float(quant.scale) for tensor, quant in plan.tensors.items()}
