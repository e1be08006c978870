"""Which sites to shift and scale, and by how much: measured site by site, then end to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import onnx_ir as ir

from qcompiler.options import EqualizeMethod
from qcompiler.passes.equalize.choose_shift_scale import Choice, choose, choose_jointly, proposals
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.equalize.joint_loss import JointLosses
from qcompiler.passes.equalize.pick_sites import BUT_VALUES, Parameters, pick, same, with_and_without_values
from qcompiler.passes.equalize.sample_rows import Rows, sample_each
from qcompiler.passes.equalize.trials import Measured, Trials
from qcompiler.passes.quant.select_sites import select_sites, source_of
from qcompiler.passes.quant.switched_model import decibels
from qcompiler.passes.quant.zero_points import may_be_one_sided
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind, Site
from qcompiler.precision import ALL_8_BITS, Precisions
from qcompiler.session import Feeds
from qcompiler.target import Target

METHODS: Mapping[str, tuple[str, ...]] = {
    "auto": ("shift", "os_plus", "smooth", "smooth_shift", "outlier_tune", "bounded_fold"),
    "os_plus": ("shift", "os_plus"),
    "smooth": ("smooth",),
    "outlier_tune": ("outlier_tune",),
    "repq": ("repq",),
    "bounded_fold": ("bounded_fold",),
}
JOINT = frozenset({"auto", "os_plus"})
"""Methods whose parameters are chosen where all readers of a norm work together, behind attention or behind a gate."""
GAIN = 0.5
"""Decibels at the outputs that rewrites have to gain, without and with added nodes: less is within the measurement."""
GAIN_NODES = 1.5
ENOUGH, EVERY = 8, 2
"""From so many samples on, every second only judges: the largest value of a channel is that of the samples it was
taken from, and scales taken from a few of them looked 6 dB better on the same ones than on others."""
POLICIES: Mapping[str, Mapping[Kind, tuple[str, ...]]] = {
    "no_nodes": {},
    "residual_edges": {Kind.NORM: METHODS["auto"]},
    "activations": {Kind.NORM: METHODS["auto"], Kind.ACTIVATION: METHODS["auto"]},
}
"""What is tried in turn, with the methods that may add nodes by kind of site."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to rewrite, and for the report what was measured."""

    parameters: Parameters = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def decide(
    model: ir.Model,
    target: Target,
    feeds: Sequence[Feeds],
    *,
    method: EqualizeMethod = "auto",
    float_nodes: frozenset[str] = frozenset(),
    precisions: Precisions = ALL_8_BITS,
    goal: float = 25.0,
    share: float = 0.1,
    zero_points: bool = False,
    full: bool = False,
    threads: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Decision:
    """Choose parameters for `FoldShiftScale`.

    Every site takes the method that leaves its readers least error. Then the model is quantized without rewrites, with
    those that add no node, and, as long as the outputs stay below `goal` dB, with those that do (the scale of a
    residual edge, activation functions). What costs more is taken only where the outputs gain enough; where nothing
    gains, nothing is rewritten.

    The full search then chooses once more for the sites taken, on tensors that carry the errors of all layers in front,
    quantized behind these rewrites, and by the float product of the same tensors (OS+'s forward order, in two rounds in
    place of layer by layer, which would run the model once for each); that is kept only where the outputs gain.

    Args:
        model: In canonical form; left as it is.
        feeds: Calibration samples; parameters are found on some and judged on others where there are enough.
        float_nodes: Names of nodes that are not quantized.
        precisions: Bits by node.
        share: Of the multiply-adds that may stay float. Where the attention products fit, rewrites are judged without
            them: no rewrite takes away their noise, which hides what is gained, and which tuning takes away.
        zero_points: Whether one-sided tensors get one, where the target takes it.
    """
    chosen = select_sites(model, target.placement, float_nodes, precisions)
    quantized = {name for name, read in chosen.activations.items() if read}
    one_sided = may_be_one_sided(model, target, chosen) if zero_points else frozenset()
    sites = [site for site in find_sites(model).sites if any(item.node.name in quantized for item in site.readers)]
    if not sites or not feeds or method == "none":
        return Decision({}, {"method": method, "sites": {}})
    apart = len(feeds) >= ENOUGH
    judges = feeds[EVERY - 1 :: EVERY] if apart else feeds
    shown = [feed for index, feed in enumerate(feeds) if index % EVERY != EVERY - 1] if apart else feeds
    rows = sample_each(model, sites, [shown, judges] if apart else [shown], threads=threads)
    seen, others = rows[0], rows[-1]
    rounding = {site.name: _but_float_readers(site, quantized) for site in sites}
    joint = JointLosses(model, tuple(rounding.values()) if method in JOINT else (), judges, precisions, threads=threads)

    def chosen_on(seen: Mapping[str, Rows], others: Mapping[str, Rows]) -> dict[str, Choice]:
        choices: dict[str, Choice] = {}
        for site in sites:
            read = rounding[site.name]
            found = choose(
                read, seen[site.name], others[site.name].rows, METHODS[method], precisions,
                str(source_of(site.value).name) in one_sided,
            )  # fmt: skip
            if loss := joint.of(read):
                found = choose_jointly(read, seen[site.name], found, METHODS[method], precisions, loss)
            choices[site.name] = found
            progress()
        return choices

    choices = chosen_on(seen, others)
    tried = {name: pick(sites, choices, METHODS[method], nodes) for name, nodes in POLICIES.items()}
    free = with_and_without_values(sites, {"no_nodes": tried["no_nodes"]})
    costly = {name: made for name, made in tried.items() if POLICIES[name] and not same(made, tried["no_nodes"])}
    costly = with_and_without_values(sites, costly)
    tried = free | costly
    best, measured = "none", dict[str, Measured]()
    if tried:
        trials = Trials(
            model, target, sites, seen, shown, judges, float_nodes=float_nodes, precisions=precisions, goal=goal,
            share=share, zero_points=zero_points, threads=threads,
        )  # fmt: skip
        measured = trials.measure({"none": Parameters(), **free})
        progress()
        for name in free:
            if measured[name].gains(measured[best], GAIN):
                best = name
        if costly and measured[best].tuned < goal:
            measured |= trials.measure(costly)
            for name in costly:
                if measured[name].gains(measured[best], GAIN_NODES if best == "none" or best in free else GAIN):
                    best = name
            progress()
        if full and best != "none":
            opened = trials.opened(tried[best], measured[best].power)
            noisy = sample_each(model, sites, [shown, judges] if apart else [shown], threads=threads, opened=opened)
            again = chosen_on(noisy[0], noisy[-1])
            picked = pick(sites, again, METHODS[method], POLICIES[best.removesuffix(BUT_VALUES)])
            name = f"{best}_forward"
            tried[name] = {site: made for site, made in picked.items() if site in tried[best]}
            measured |= trials.measure({best: tried[best], name: tried[name]})
            if measured[name].gains(measured[best], 0.0):
                best, (seen, others), choices = name, (noisy[0], noisy[-1]), again
    taken = tried.get(best, {})
    parameters = taken
    if apart:
        both = {site.name: seen[site.name].merge(others[site.name]) for site in sites if site.name in taken}
        parameters = {
            site.name: _again(
                rounding[site.name], both[site.name], choices[site.name], taken[site.name], METHODS[method], precisions
            )
            for site in sites
            if site.name in taken
        }
    facts = {
        "method": method,
        "samples": len(shown),
        "judged_on": len(judges),
        "sqnr": {name: round(value.total, 2) for name, value in measured.items()},
        "sqnr_judged": {name: round(value.judged, 2) for name, value in measured.items()},
        "sqnr_tuned": {name: round(value.tuned, 2) for name, value in measured.items()},
        "taken": best,
        "sites": {site.name: _described(site, choices[site.name], taken.get(site.name)) for site in sites},
        "added_nodes": _added(model, parameters),
    }
    return Decision(parameters, facts)


def _but_float_readers(site: Site, quantized: Collection[str]) -> Site:
    """For losses: layers that stay float, such as single hidden units apart, make no error."""
    return replace(site, readers=tuple(item for item in site.readers if item.node.name in quantized))


def _again(
    site: Site, seen: Rows, choice: Choice, taken: ShiftScale, methods: Sequence[str], precisions: Precisions
) -> ShiftScale:
    """The same proposal made from more samples: bounds of channels grow with their number."""
    place = next(choice.places[name] for name, made in choice.best.items() if made is taken)
    return next(islice(proposals(site, seen, methods, precisions), place, None))[1]


def _described(site: Site, choice: Choice, taken: ShiftScale | None) -> dict[str, Any]:
    method = next((name for name, made in choice.best.items() if made is taken), "none")
    return {
        "kind": site.kind.value,
        "method": method,
        "loss": "joint" if choice.joint else "readers",
        "readers_sqnr": {name: round(decibels(loss), 1) for name, loss in choice.losses.items()},
    }


def _added(model: ir.Model, parameters: Parameters) -> int:
    copy = model.clone()
    before = Counter(node.op_type for node in copy.graph)
    FoldShiftScale(parameters).run(copy)
    return sum((Counter(node.op_type for node in copy.graph) - before).values())
