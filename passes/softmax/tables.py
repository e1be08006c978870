"""The table behind a lookup: 256 entries for each different head, and how far it is from the exact levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.lookup import STEPS, Levels, Lookup
from qcompiler.passes.softmax.level_quantizers import decode, quantizer_of
from qcompiler.scheme import FloatArray, TensorQuant


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What the graph holds.

    Attributes:
        entries: float32 [rows, 256]: the level that each code of the fine grid is looked up as.
        rows: The row of each head; one for all heads where the tensor has one.
    """

    entries: FloatArray
    rows: tuple[int, ...]


def table_of(lookup: Lookup, grid: TensorQuant | None) -> Table:
    """The composed table: fine code -> value -> level -> nearest number of the tensor's grid.

    Args:
        grid: The tensor's 8-bit grid; None leaves the levels as they are.
    """
    different = tuple(dict.fromkeys(lookup.heads))
    entries = [composed(item, lookup.top, grid) for item in different]
    return Table(np.stack(entries).astype(np.float32), tuple(different.index(item) for item in lookup.heads))


def composed(levels: Levels, top: float, grid: TensorQuant | None) -> npt.NDArray[np.float64]:
    """One row: what each code of the fine grid over [0, top] becomes."""
    quantizer = quantizer_of(levels)
    found = decode(quantizer, quantizer.encode(np.arange(STEPS + 1) * (top / STEPS)))
    return found if grid is None else on_grid(found, grid)


def on_grid(values: npt.NDArray[np.float64], grid: TensorQuant) -> npt.NDArray[np.float64]:
    """Values >= 0 rounded to the nearest number that the grid holds."""
    scale = float(grid.scale)
    zero = 0 if grid.zero_point is None else int(grid.zero_point)
    return np.clip(np.rint(values / scale), 0, grid.scheme.qmax - zero) * scale


def fine_codes(values: npt.NDArray[np.floating], top: float) -> npt.NDArray[np.intp]:
    """Codes of the fine grid, rounded half to even in float32 as QuantizeLinear does."""
    codes = np.rint(np.asarray(values, np.float32) / np.float32(top / STEPS))
    return np.asarray(np.clip(codes, 0, STEPS), np.intp)


def largest_error(levels: Levels, top: float, grid: TensorQuant | None) -> float:
    """The largest |table(x) - exact level(x)| over all x >= 0.

    Within a cell of the fine grid the table is constant and the exact quantizer rises, so that the ends of the cells
    tell. Above the last cell both are constant.
    """
    quantizer, emitted = quantizer_of(levels), composed(levels, top, grid)
    codes, step = np.arange(STEPS + 1), top / STEPS
    ends = [decode(quantizer, quantizer.encode(np.maximum(codes + side, 0) * step)) for side in (-0.5, 0.5)]
    return float(max(np.abs(emitted - exact).max() for exact in ends))
