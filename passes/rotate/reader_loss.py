"""The error that integers make in the layers that read a tensor, as it is and rotated."""

from __future__ import annotations

import numpy as np

from qcompiler.graph import constant_array
from qcompiler.passes.equalize.loss import largest_codes, rounded
from qcompiler.passes.rotate.turn import Turn
from qcompiler.passes.sites.records import Reals, Site
from qcompiler.precision import Precisions

CLIPS = (1.0, 0.6)
"""Thresholds tried, as shares of the largest magnitude: a range is also chosen when the model is compiled."""
OUTPUTS = 128
_SMALLEST_SIGNAL = 0.1
"""Of a row, as a share of the median."""


def reader_loss(site: Site, rows: Reals, precisions: Precisions, by: Turn | None = None) -> float:
    """|Q(x K) Q(K^T W) - x W|^2 over |x W - mean|^2, averaged over rows and readers; K is the unit matrix for None.

    Each row (a token) counts by its own signal: a few with massive activations would hide what happens to all others.
    Activations take one scale, the best of `CLIPS`; weights a scale for each output channel, at most `OUTPUTS` of them.

    Args:
        rows: [rows, channels] of the tensor, as it is.
        precisions: Bits by reader.
    """
    qmax, weight_qmax = largest_codes(site, precisions)
    turned = rows if by is None else by(rows)
    top = float(np.abs(turned).max(initial=0.0))
    if not top:
        return 0.0
    steps = [np.float32(top * clip / qmax) for clip in CLIPS]
    codes = [np.clip(np.rint(turned / step), -qmax, qmax) * step for step in steps]
    totals = np.zeros(len(CLIPS))
    for reader, largest in zip(site.readers, weight_qmax, strict=True):
        weight = constant_array(reader.weight.value)
        assert weight is not None
        matrix = weight.reshape(weight.shape[:2])
        matrix = matrix if reader.weight.axis == 0 else matrix.T
        matrix = np.asarray(matrix[:, :: -(-matrix.shape[1] // OUTPUTS)], np.float32)
        exact = rows @ matrix
        signal = np.square(exact - exact.mean(0)).mean(1)
        signal = np.maximum(signal, _SMALLEST_SIGNAL * float(np.median(signal)) or 1.0)
        matrix = matrix if by is None else by(matrix, 0)
        weight = rounded(matrix, np.full(matrix.shape[1], largest))
        totals += [float((np.square(code @ weight - exact).mean(1) / signal).mean()) for code in codes]
    return float(totals.min()) / len(site.readers)
