"""Which kinds of rotation to make, and where: measured at the outputs, the best one first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.passes.equalize.reader_loss import reader_loss
from qcompiler.passes.equalize.sample_rows import sample_rows
from qcompiler.passes.quant.select_sites import select_sites, source_of
from qcompiler.passes.quant.zero_points import may_be_one_sided
from qcompiler.passes.rotate.choose_draws import choose_draws
from qcompiler.passes.rotate.draws import Draw
from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.hadamard import factors
from qcompiler.passes.rotate.insert_rotation import online_turn
from qcompiler.passes.rotate.rotate_down import down_sites
from qcompiler.passes.rotate.rotations import KINDS, Kind, Readers, Rotation, found_sites, passes_of
from qcompiler.passes.rotate.search import Search, label
from qcompiler.passes.sites.records import Site
from qcompiler.precision import ALL_8_BITS, Precisions
from qcompiler.session import Feeds
from qcompiler.target import Target

MEASURED: Mapping[str, tuple[Kind, ...]] = {"auto": KINDS, "recipe": ("gated",)}
"""Words that ask for a measurement, with the kinds that take part."""
IN_FRONT: tuple[Kind, ...] = ("down", "gated")
"""Kinds that stand in front of single layers, which are measured first."""
WORTH_NODES = 0.5
"""Nodes are added where the readers lose half of their error."""
FAR_BELOW = 12.0
"""Decibels below the median down projection that make one worth naming."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to rotate, and for the report what was measured."""

    rotations: tuple[Rotation, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def wanted_kinds(word: str) -> tuple[Kind, ...]:
    """The kinds that "all" or a list such as "residual,down" names."""
    words = word.split(",")
    return tuple(kind for kind in KINDS if word == "all" or kind in words)


def decide(
    model: ir.Model,
    target: Target,
    feeds: Sequence[Feeds],
    *,
    how: str = "auto",
    float_nodes: frozenset[str] = frozenset(),
    precisions: Precisions = ALL_8_BITS,
    goal: float = 25.0,
    share: float = 0.1,
    zero_points: bool = False,
    full: bool = False,
    threads: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Decision:
    """Choose rotations for the passes of this folder.

    "auto": each kind is measured alone; the one that gains most at the outputs is taken, and what is left is measured
    on top of it, until nothing gains enough. Kinds that add nodes have to gain more and, but for "gated", are tried
    only while the outputs stay below `goal` dB; in front of down and output projections only those sites take part
    whose readers lose half of their error. Nothing is taken that leaves the outputs worse than no rotation. The full
    search also tries other signs, and for each site signs and an order of channels chosen on data.

    "recipe": the same with "gated" alone.

    "all", or kinds separated by commas: these at every site, unmeasured but for the full search, which chooses their
    signs and orders.

    Args:
        model: In canonical form; left as it is.
        feeds: A few calibration samples.
        float_nodes: Names of nodes that are not quantized.
        precisions: Bits by node.
        share: Of the multiply-adds that may stay float.
        zero_points: Whether one-sided tensors get one, where the target takes it; behind a rotation none is.
    """
    chosen = select_sites(model, target.placement, float_nodes, precisions)
    quantized = {name for name, read in chosen.activations.items() if read}
    one_sided = may_be_one_sided(model, target, chosen) if zero_points else frozenset()
    sites = _worth_rotating(found_sites(model), quantized)
    facts: dict[str, Any] = {"how": how, "found": {kind: len(names) for kind, names in sites.items()}}
    search = Search(model, target, feeds, float_nodes, precisions, share, zero_points, threads, progress)
    if how not in MEASURED:
        taken = tuple(Rotation(kind, tuple(sites[kind])) for kind in wanted_kinds(how) if kind in sites)
        if full and taken and feeds:
            taken, drawn = _drawn(search, taken, quantized)
            facts |= drawn | _measured(search, taken)
        return Decision(taken, facts | _described(model, taken))
    sites = {kind: names for kind, names in sites.items() if kind in MEASURED[how]}
    if not sites or not feeds:
        return Decision((), facts)
    for kind in IN_FRONT:
        if kind not in sites:
            continue
        readers = sites[kind]
        losses = _losses(_in_front(model, {kind: readers}), feeds, precisions, threads, model, one_sided)
        sites[kind] = {name: readers[name] for name, (plain, turned) in losses.items() if turned <= WORTH_NODES * plain}
        facts[f"{kind}_readers_sqnr"] = {
            name: {"none": _decibels(plain), "rotated": _decibels(turned)} for name, (plain, turned) in losses.items()
        }
        facts["still_noisy"] = [*facts.get("still_noisy", ()), *still_noisy(losses, readers)]
    taken = search.greedy([Rotation(kind, tuple(names)) for kind, names in sites.items() if names], goal)
    if full and taken:
        taken, drawn = _drawn(search, taken, quantized)
        facts |= drawn
    facts |= _measured(search, taken) | _described(model, taken, search.seen[()].costs)
    return Decision(taken, facts)


def still_noisy(losses: Mapping[str, tuple[float, float]], readers: Readers) -> list[str]:
    """Down projections that rotated or not lose far more than the median one: a few positions decide their range.

    A rotation spreads a large channel, not a large position (the first token of many language models); such a layer
    wants to stay float.

    Args:
        losses: Site to the loss of its readers, as it is and rotated.
        readers: Site to the names of its readers.
    """
    levels = {name: _decibels(min(pair)) for name, pair in losses.items()}
    middle = float(np.median(list(levels.values())))
    return [reader for name, level in levels.items() if level < middle - FAR_BELOW for reader in readers[name]]


def _drawn(
    search: Search, taken: tuple[Rotation, ...], quantized: Collection[str]
) -> tuple[tuple[Rotation, ...], dict[str, Any]]:
    """These rotations with the draws that gain at the outputs, and what the readers of each site lose with each."""
    found = choose_draws(search.model, taken, search.feeds, quantized, search.precisions, threads=search.threads)
    return search.draws(taken, found.rotations), {"draws": found.facts()}


def _measured(search: Search, taken: tuple[Rotation, ...]) -> dict[str, Any]:
    return {
        "samples": len(search.feeds),
        "sqnr": {label(key): round(value.total, 2) for key, value in search.seen.items()},
        "sqnr_judged": {label(key): round(value.judged, 2) for key, value in search.seen.items()},
        "taken": label(taken),
    }


def _worth_rotating(sites: Mapping[Kind, Readers], quantized: Collection[str]) -> dict[Kind, Readers]:
    """Without sites whose readers all stay float."""
    kept = {
        kind: {name: readers for name, readers in names.items() if any(reader in quantized for reader in readers)}
        for kind, names in sites.items()
    }
    return {kind: names for kind, names in kept.items() if names}


def _in_front(model: ir.Model, wanted: Mapping[Kind, Collection[str]]) -> list[Site]:
    """The sites of these names that are rotated by nodes in front of their readers."""
    found = {"down": down_sites, "gated": gated_sites}
    return [
        site
        for kind in IN_FRONT
        if kind in wanted
        for site in found[kind](model)
        if isinstance(site, Site) and site.name in wanted[kind]
    ]


def _losses(
    sites: Sequence[Site],
    feeds: Sequence[Feeds],
    precisions: Precisions,
    threads: int,
    model: ir.Model,
    one_sided: Collection[str],
) -> dict[str, tuple[float, float]]:
    """Site to the loss of its readers, as it is and rotated."""
    seen = sample_rows(model, sites, feeds, threads=threads)
    return {
        site.name: (
            reader_loss(
                site, seen[site.name].rows, precisions, zero_point=str(source_of(site.value).name) in one_sided
            ),
            reader_loss(site, seen[site.name].rows, precisions, online_turn(site.channels, Draw())),
        )
        for site in sites
    }


def _described(model: ir.Model, taken: tuple[Rotation, ...], costs: Mapping[str, int] | None = None) -> dict[str, Any]:
    """What the rotations add: nodes, and multiply-adds as a share of all where these are known."""
    copy = model.clone()
    before = len(copy.graph)
    for item in passes_of(taken):
        item.run(copy)
    facts: dict[str, Any] = {
        "sites": {item.kind: list(item.sites) for item in taken}, "added_nodes": len(copy.graph) - before,
    }  # fmt: skip
    if costs:
        facts["added_work"] = round(_added(model, taken, costs) / sum(costs.values()), 4)
    return facts


def _added(model: ir.Model, taken: Sequence[Rotation], costs: Mapping[str, int]) -> float:
    """Multiply-adds of the rotations in front of layers: m + b for each channel and position."""
    total = 0.0
    for site in _in_front(model, {item.kind: item.sites for item in taken}):
        reader = site.readers[0]
        weight = reader.weight.value.const_value
        assert weight is not None  # a layer's weight is constant, or it were none
        left, right = factors(site.channels)
        work = right + (left if left > 1 else 0)
        total += costs.get(str(reader.node.name), 0) / weight.shape.numpy()[reader.outputs] * work
    return total


def _decibels(loss: float) -> float:
    return round(float(-10 * np.log10(max(loss, 1e-12))), 1)
