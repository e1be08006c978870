"""The error that integers make in the layers that read a tensor, as it is and rotated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.graph import constant_array
from qcompiler.passes.equalize.loss import largest_codes, rounded
from qcompiler.passes.equalize.trial_grid import grids
from qcompiler.passes.rotate.turn import Turn
from qcompiler.passes.sites.records import Reals, Site
from qcompiler.precision import Precisions

OUTPUTS = 128
_SMALLEST_SIGNAL = 0.1
"""Of a row, as a share of the median."""


def reader_loss(
    site: Site,
    rows: Reals,
    precisions: Precisions,
    by: Turn | None = None,
    *,
    zero_point: bool = False,
    without: Sequence[int] = (),
) -> float:
    """|Q(x K) Q(K^T W) - x W|^2 over |x W - mean|^2, averaged over rows and readers; K is the unit matrix for None.

    Each row (a token) counts by its own signal: a few with massive activations would hide what happens to all others.
    Activations take one scale, that of the best grid; weights one for each output channel, at most `OUTPUTS` of them.

    Args:
        rows: [rows, channels] of the tensor, as it is.
        precisions: Bits by reader.
        zero_point: Whether the tensor may have one; behind a rotation nothing is one-sided.
        without: Channels that are computed apart, exactly.
    """
    qmax, weight_qmax = largest_codes(site, precisions)
    left = np.ones(rows.shape[1], np.float32)
    left[list(without)] = 0
    turned = rows * left if by is None else by(rows)
    codes = [grid.codes(turned) * grid.step for grid in grids(turned, qmax, zero_point)]
    if not codes:
        return 0.0
    totals = np.zeros(len(codes))
    for reader, largest in zip(site.readers, weight_qmax, strict=True):
        weight = constant_array(reader.weight.value)
        assert weight is not None
        matrix = weight.reshape(weight.shape[:2])
        matrix = matrix if reader.weight.axis == 0 else matrix.T
        matrix = np.asarray(matrix[:, :: -(-matrix.shape[1] // OUTPUTS)], np.float32)
        exact = rows @ matrix
        signal = np.square(exact - exact.mean(0)).mean(1)
        signal = np.maximum(signal, _SMALLEST_SIGNAL * float(np.median(signal)) or 1.0)
        matrix = matrix * left[:, None] if by is None else by(matrix, 0)
        exact = turned @ matrix
        weight = rounded(matrix, np.full(matrix.shape[1], largest))
        totals += [float((np.square(code @ weight - exact).mean(1) / signal).mean()) for code in codes]
    return float(totals.min()) / len(site.readers)
