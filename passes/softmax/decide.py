"""Which probabilities are looked up, and as what; written into the plan over the grids that calibration chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.attention_rows import MOST_ITEMS, AttentionRows
from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.runner import MEMORY_BOUND, split_by_bytes
from qcompiler.lookup import KINDS, Form
from qcompiler.passes.quant.select_sites import Sites
from qcompiler.passes.softmax.choose_levels import Choice, Grid, choose_levels
from qcompiler.passes.softmax.probabilities import Probability, probabilities
from qcompiler.plan import QuantPlan
from qcompiler.session import Feeds, Session

CONTAINER_BITS = 8
_WHOLE = "at 8 bits every table of 256 codes is at most as good as the uniform grid"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asks for.

    Attributes:
        how: A kind of levels, or "auto" for the one with the least error.
        bits: Of the levels; None takes what the product's activations have.
        form: See `Lookup`.
    """

    how: str = "uniform"
    bits: int | None = None
    form: Form = "integer"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Tensors that will be looked up with the bits of their levels, and products left alone with the reason."""

    bits: Mapping[Probability, int]
    skipped: Mapping[str, str]


def reserve(model: ir.Model, sites: Sites, wish: Wish) -> Wanted:
    """Find the tensors and give their grids 8 bits: what is looked up lies on the container's own grid.

    Args:
        sites: Its `bits` are changed.
    """
    if wish.how == "uniform" and wish.bits in (None, CONTAINER_BITS):
        return Wanted({}, {})
    found, refused = probabilities(model)
    grouped = {member for group in sites.groups for member in group}
    wanted: dict[Probability, int] = {}
    skipped = {item.where: item.reason for item in refused}
    for place in found:
        source = sites.sources.get(place.tensor, "")
        if 0 not in sites.activations.get(place.node, ()):
            skipped[place.node] = sites.floats.get(place.node, "its product is not quantized")
            continue
        bits = wish.bits or sites.bits[source]
        if place.tensor in grouped:
            skipped[place.node] = "the probabilities share their scale with other tensors"
        elif bits == CONTAINER_BITS and wish.how in ("auto", "uniform"):
            skipped[place.node] = _WHOLE
        else:
            wanted[place] = bits
            sites.bits[source] = CONTAINER_BITS
    return Wanted(wanted, skipped)


def give_lookups(
    plan: QuantPlan, model: ir.Model, sites: Sites, wanted: Wanted, wish: Wish,
    tensors: Mapping[str, Histogram], feeds: Sequence[Feeds], *, threads: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Choose the levels of each tensor that was reserved and write them into the plan.

    Args:
        plan: Its `lookups`, `tensors` and `nodes` are changed. What it keeps float stays so.
        tensors: Histograms by source.
        feeds: Samples for the rows of P and V; without any the histograms decide.

    Returns:
        Facts for the report.
    """
    kept = [place for place in wanted.bits if 0 in plan.nodes.get(place.node, ()) and place.tensor in plan.tensors]
    skipped = dict(wanted.skipped) | {
        place.node: plan.floats.get(place.node, "its product is not quantized")
        for place in wanted.bits if place not in kept
    }  # fmt: skip
    kinds = [kind for kind in KINDS if wish.how in (kind, "auto")]
    facts: dict[str, Any] = {}
    rows = gather_rows(model, kept, feeds, threads=threads)
    for place in kept:
        source = sites.sources[place.tensor]
        scheme, zero = plan.tensors[place.tensor].scheme, sites.zero_points.get(source)
        grid = Grid(scheme, zero) if wish.form == "integer" else None
        choice = choose_levels(
            kinds, wanted.bits[place], grid, tensors[source], rows[place], by_head=place.heads == len(rows[place].heads)
        )
        if choice is None:
            skipped[place.node] = "no probability above 0 was seen"
            continue
        plan.lookups[place.tensor] = choice.lookup
        if grid is None:
            plan.nodes[place.node] = tuple(index for index in plan.nodes[place.node] if index != 0)
            del plan.tensors[place.tensor]
        else:
            plan.tensors[place.tensor] = grid.over(choice.lookup.top)
        facts[place.tensor] = _facts(place, choice, tensors[source])
    return {"tensors": facts, "skipped": skipped} if facts or skipped else {}


def gather_rows(
    model: ir.Model, places: Sequence[Probability], feeds: Sequence[Feeds], *, threads: int = 0
) -> dict[Probability, AttentionRows]:
    """P and V of each product on up to `MOST_ITEMS` of these samples, spread evenly, a bounded part of each."""
    found = dict.fromkeys(places, AttentionRows())
    if not places or not feeds:
        return found
    feeds = feeds[:: -(-len(feeds) // MOST_ITEMS)]
    fed = {str(value.name): value for value in model.graph.inputs}
    values = fed | {str(value.name): value for node in model.graph for value in node.outputs}
    largest = max(feeds, key=lambda feed: sum(array.size for array in feed.values()))
    names = list(dict.fromkeys(place.tensor for place in places))
    for chunk in split_by_bytes(values, names, largest, input_specs(model), MEMORY_BOUND):
        mine = [place for place in places if place.tensor in chunk and place.values in values]
        session = Session(model, {*chunk, *(place.values for place in mine)} - fed.keys(), threads=threads)
        for feed in feeds:
            arrays = {**feed, **session.run(feed)}
            for place in mine:
                found[place] = found[place].observe(arrays[place.tensor], arrays[place.values])
    return found


def _facts(place: Probability, choice: Choice, histogram: Histogram) -> dict[str, Any]:
    return {
        "layer": place.layer,
        "error": _figure(choice.error),
        "error_exact": _figure(choice.exact),
        "measured_on": "P times V" if choice.rows else "P, by its histogram",
        "rows": choice.rows,
        "by_kind": {kind: _figure(error) for kind, error in choice.by_kind.items()},
        "histogram": _linear(histogram, choice.lookup.top),
    }


def _linear(histogram: Histogram, top: float, bins: int = 64) -> dict[str, Any]:
    """Values above 0 counted in even bins over [0, top], the last one with all above; and how many were 0."""
    lower, upper, counts = histogram.bins()
    above = lower > 0
    places = np.minimum(((lower + upper) / 2 / top * bins).astype(int), bins - 1)
    found = np.bincount(places[above], weights=counts[above], minlength=bins).astype(int)
    return {"top": _figure(top), "counts": found.tolist(), "zeros": int(counts[~above].sum())}


def _figure(value: float) -> float:
    return float(f"{value:.5g}")
