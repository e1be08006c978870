"""Which hidden units to compute apart: by the error of the layers that read them, then end to end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.passes.equalize.reader_loss import reader_loss
from qcompiler.passes.equalize.sample_rows import Rows, sample_rows
from qcompiler.passes.quant.measure_rewrites import measure
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.quant.switched_model import decibels
from qcompiler.passes.quant.zero_points import may_be_one_sided
from qcompiler.passes.sites.records import Site
from qcompiler.passes.split_units.hidden_layers import hidden_layers
from qcompiler.passes.split_units.split_units import SplitUnits
from qcompiler.precision import Precisions
from qcompiler.session import Feeds
from qcompiler.target import Target

RATIO = 8.0
"""Of the largest unit's magnitude to the median one's; below no unit stands out."""
COUNTS = (1, 2, 4, 8)
"""How many units of one layer are tried: each costs a column and a row in float."""
WORTH = 0.25
"""Units are split off where the readers keep no more than this share of their error."""
AS_GOOD = 1.25
"""So much more error than the best number of units leaves is taken for fewer units."""
GAIN = 0.5
"""Decibels that the outputs have to gain."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Site to its units, and for the report what was measured."""

    units: dict[str, tuple[int, ...]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def choose_units(
    model: ir.Model,
    target: Target,
    draw: Callable[[], Sequence[Feeds]],
    *,
    float_nodes: frozenset[str],
    precisions: Precisions,
    goal: float,
    share: float,
    zero_points: bool,
    threads: int,
    progress: Callable[[], None] = lambda: None,
) -> Decision:
    """Units whose magnitude stands out, where the layers that read them gain and the outputs are below `goal` dB.

    Args:
        model: In canonical form; left as it is.
        draw: Gives a few calibration samples; not called where there is no hidden layer to look at.
        float_nodes: Names of nodes that are not quantized.
        share: Of the multiply-adds that may stay float.
        zero_points: Whether one-sided tensors get one, where the target takes it.
    """
    chosen = select_sites(model, target.placement, float_nodes, precisions)
    quantized = {name for name, read in chosen.activations.items() if read}
    sites = [
        replace(site, readers=readers)
        for site in hidden_layers(model)
        if isinstance(site, Site)
        and (readers := tuple(reader for reader in site.readers if reader.node.name in quantized))
    ]
    feeds = draw() if sites else ()
    if not feeds:
        return Decision()
    one_sided = may_be_one_sided(model, target, chosen) if zero_points else frozenset()
    rows = sample_rows(model, sites, feeds, threads=threads)
    units: dict[str, tuple[int, ...]] = {}
    found: dict[str, Any] = {}
    for site in sites:
        order = _outstanding(rows[site.name])
        if order.size:
            units[site.name], found[site.name] = _of_site(site, rows[site.name], order, precisions, one_sided)
    units = {name: taken for name, taken in units.items() if taken}
    facts: dict[str, Any] = {"looked_at": len(sites), "sites": found}
    if not units:
        return Decision({}, facts)

    def level(rewrites: Sequence[SplitUnits]) -> float:
        progress()
        return measure(
            model, target, rewrites, feeds, float_nodes=float_nodes, precisions=precisions, share=share,
            zero_points=zero_points, threads=threads,
        ).judged  # fmt: skip

    none = level(())
    facts["sqnr"] = {"none": round(none, 2)}
    if none >= goal:
        return Decision({}, facts)
    split = level([SplitUnits(units)])
    facts["sqnr"]["split"] = round(split, 2)
    return Decision(units if split - none >= GAIN else {}, facts)


def _outstanding(rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The largest units, the first one first; none where the first does not stand out."""
    peaks = np.maximum(-rows.low, rows.high)
    order = np.argsort(-peaks, kind="stable")[: min(COUNTS[-1], peaks.size // 8)]
    stands_out = order.size and peaks[order[0]] > RATIO * np.median(peaks)
    return order if stands_out else order[:0]


def _of_site(
    site: Site,
    rows: Rows,
    order: np.ndarray[tuple[int], np.dtype[np.int64]],
    precisions: Precisions,
    one_sided: Collection[str],
) -> tuple[tuple[int, ...], dict[str, Any]]:
    zero_point = site.name in one_sided

    def loss(count: int) -> float:
        return reader_loss(site, rows.rows, precisions, zero_point=zero_point, without=order[:count].tolist())

    losses = {count: loss(count) for count in (0, *COUNTS) if count <= order.size}
    least = min(losses.values())
    count = next(count for count, found in losses.items() if found <= AS_GOOD * least)
    taken = tuple(sorted(order[:count].tolist())) if losses[count] <= WORTH * losses[0] else ()
    facts = {"units": list(taken), "readers_sqnr": {name: round(decibels(found), 1) for name, found in losses.items()}}
    return taken, facts
