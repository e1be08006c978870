"""The levels of one layer's probabilities that leave P V closest to float.

Candidates are what the graph would hold, rounded to the fine grid and to the grid of the integer kernel, so that what
the choice is made by is what runs. `top` is a percentile of the values that are not 0: exact zeros come from masks and
clipped softmaxes, would decide the percentile, and are exact in every candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.attention_rows import AttentionItem, AttentionRows
from qcompiler.calibration.observers import Histogram
from qcompiler.lookup import Form, Levels, Lookup
from qcompiler.passes.softmax.level_quantizers import decode, quantizer_of
from qcompiler.passes.softmax.tables import composed, fine_codes
from qcompiler.scheme import QuantScheme, TensorQuant

PERCENTILES = (0.999, 0.9999, 0.99999, 1.0)
CURVATURES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""alpha max(c, 1 - c) as shares of pi / 2; the last ones are as far as the tangent is tame."""
CENTRES = (0.5, 0.8)
"""Dense at both ends, and dense near 0 above all."""
HEAD_GAIN = 0.95
"""Levels by head are taken where they leave less than this share of the squared error, on rows that did not choose."""
COARSE, SHORTLIST = 4, 6
"""Every 4th item tells the 6 candidates that all items are for."""
Table = npt.NDArray[np.float64]
Coded = tuple[AttentionItem, npt.NDArray[np.intp]]
"""Rows with their codes on the fine grid."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, with its error.

    Attributes:
        error: ||(P^ - P) V|| / ||P V|| over the rows; without rows ||P^ - P|| / ||P|| over the histogram.
        exact: The same with the exact levels, neither on the fine grid nor on that of the kernel.
        by_kind: The least error of each kind that was tried, one table for all heads.
        rows: Rows of P behind the figures; 0 where the histogram decided.
    """

    lookup: Lookup
    error: float
    exact: float
    by_kind: dict[str, float]
    rows: int


@dataclass(frozen=True, slots=True)
class Grid:
    """The 8-bit grid of the integer kernel, with as many steps above 0 as the target has; None in the float form."""

    scheme: QuantScheme
    zero_point: int | None

    def over(self, top: float) -> TensorQuant:
        """The grid whose largest code is `top`."""
        zero = self.zero_point or 0
        scale = np.asarray(top / (self.scheme.qmax - zero), np.float32)
        return TensorQuant(self.scheme, scale, None if self.zero_point is None else np.asarray(zero, np.int8))


def choose_levels(
    kinds: Sequence[str],
    bits: int,
    grid: Grid | None,
    histogram: Histogram,
    rows: AttentionRows,
    *,
    by_head: bool,
    centres: Sequence[float] = CENTRES,
) -> Choice | None:
    """The best of `kinds`; None where no value above 0 was seen.

    Args:
        by_head: Whether the heads may have levels of their own.
        centres: Of tangents.
    """
    tops = percentiles(histogram)
    if not tops:
        return None
    form: Form = "float" if grid is None else "integer"
    items = [item for head in rows.heads for item in head]
    signal = sum(_signal(item) for item in items) if items else _histogram_signal(histogram)
    coded = {top: [(item, fine_codes(item.rows, top)) for item in items] for top in tops}
    found: dict[str, tuple[float, Levels]] = {}
    for kind in kinds:
        tried = [levels for top in tops for levels in candidates(kind, bits, top, centres)]
        tables = [composed(item, item.top, None if grid is None else grid.over(item.top)) for item in tried]
        if items:
            noise, place = _least(tables, [coded[item.top] for item in tried])
        else:
            noises = [_histogram_noise(histogram, *pair) for pair in zip(tables, (i.top for i in tried), strict=True)]
            noise, place = min((noise, place) for place, noise in enumerate(noises))
        found[kind] = (float(np.sqrt(noise / signal)) if signal else 0.0), tried[place]
    error, levels = min(found.values(), key=lambda item: item[0])
    lookup, by_kind = Lookup((levels,), levels.top, form), {kind: item[0] for kind, item in found.items()}
    if by_head and len(rows.heads) > 1 and all(len(head) > 1 for head in rows.heads):
        error, lookup = _by_head(lookup, grid, rows, centres, error, signal)
    exact = _exact_error(lookup, rows, histogram, signal)
    return Choice(lookup, error, exact, by_kind, sum(len(item.rows) for item in items))


def _exact_error(lookup: Lookup, rows: AttentionRows, histogram: Histogram, signal: float) -> float:
    quantizers = [quantizer_of(item) for item in lookup.heads]
    if any(rows.heads):
        noise = sum(
            float(np.square((decode(quantizer, quantizer.encode(item.rows)) - item.rows) @ item.values).sum())
            for index, head in enumerate(rows.heads)
            for quantizer in (quantizers[index % len(quantizers)],)
            for item in head
        )
    else:
        points, counts = _histogram_points(histogram)
        noise = float(counts @ np.square(decode(quantizers[0], quantizers[0].encode(points)) - points))
    return float(np.sqrt(noise / signal)) if signal else 0.0


def candidates(kind: str, bits: int, top: float, centres: Sequence[float] = CENTRES) -> list[Levels]:
    """All curvatures and centres of a tangent; one of each other kind."""
    if kind != "tan":
        return [Levels(kind, bits, top)]
    return [
        Levels(kind, bits, top, round(share * np.pi / 2 / max(centre, 1 - centre), 6), centre)
        for centre in centres for share in CURVATURES
    ]  # fmt: skip


def percentiles(histogram: Histogram) -> list[float]:
    """The values of `PERCENTILES` among those above 0, without near duplicates."""
    lower, upper, counts = histogram.bins()
    above = lower > 0
    upper, counts = upper[above], counts[above]
    if not counts.size:
        return []
    shares = np.cumsum(counts) / counts.sum()
    places = [min(int(np.searchsorted(shares, share)), upper.size - 1) for share in PERCENTILES[:-1]]
    found = [float(upper[place]) for place in places]
    return _apart([*found, histogram.absmax])


def _by_head(
    shared: Lookup, grid: Grid | None, rows: AttentionRows, centres: Sequence[float], error: float, signal: float
) -> tuple[float, Lookup]:
    """Levels for each head from every second of its items, where the others say that it pays."""
    kind, bits, top = shared.heads[0].kind, shared.heads[0].bits, shared.top
    held = None if grid is None else grid.over(top)
    common = composed(shared.heads[0], top, held)
    chosen, total = [], np.zeros(3)  # squared error on the judging rows: shared, by head; by head on all rows
    for head in rows.heads:
        pairs = [(item, fine_codes(item.rows, top)) for item in head]
        tops = _apart([min(top, value) for value in _row_percentiles(head[::2])] + [top])
        tried = [levels for value in tops for levels in candidates(kind, bits, value, centres)]
        tables = [composed(levels, top, held) for levels in tried]
        choosing, judging = pairs[::2], pairs[1::2]
        _, place = _least(tables, [choosing] * len(tables))
        chosen.append(tried[place])
        total += [_noise(judging, common), _noise(judging, tables[place]), _noise(pairs, tables[place])]
    if total[1] < HEAD_GAIN * total[0]:
        return float(np.sqrt(total[2] / signal)), Lookup(tuple(chosen), top, shared.form)
    return error, shared


def _row_percentiles(items: Sequence[AttentionItem]) -> list[float]:
    values = np.concatenate([item.rows[item.rows > 0] for item in items])
    return [float(np.quantile(values, share, method="higher")) for share in PERCENTILES] if values.size else []


def _apart(values: Sequence[float]) -> list[float]:
    """Rising, without those within a thousandth of a larger one: their grids are the same."""
    found: list[float] = []
    for value in sorted(values, reverse=True):
        if not found or value < 0.999 * found[-1]:
            found.append(value)
    return found[::-1]


def _signal(item: AttentionItem) -> float:
    return float(np.square(item.rows @ item.values, dtype=np.float64).sum())


def _least(tables: Sequence[Table], pairs: Sequence[Sequence[Coded]]) -> tuple[float, int]:
    """The least squared error of P V and whose it is: all on a part of the items, the best of these on all.

    Args:
        pairs: For each table the items with their codes.
    """
    coarse = [_noise(mine[::COARSE], table) for table, mine in zip(tables, pairs, strict=True)]
    places = [int(place) for place in np.argsort(coarse, kind="stable")[:SHORTLIST]]
    return min((_noise(pairs[place], tables[place]), place) for place in places)


def _noise(pairs: Sequence[Coded], table: Table) -> float:
    levels, total = table.astype(np.float32), 0.0
    for item, codes in pairs:
        change = np.take(levels, codes)
        change -= item.rows
        product = (change @ item.values).reshape(-1)
        total += float(product @ product)
    return total


def _histogram_points(histogram: Histogram) -> tuple[Table, npt.NDArray[np.int64]]:
    lower, upper, counts = histogram.bins()
    above = lower > 0
    return (lower[above] + upper[above]) / 2, counts[above]


def _histogram_signal(histogram: Histogram) -> float:
    points, counts = _histogram_points(histogram)
    return float(counts @ np.square(points))


def _histogram_noise(histogram: Histogram, table: Table, top: float) -> float:
    points, counts = _histogram_points(histogram)
    return float(counts @ np.square(table[fine_codes(points, top)] - points))
