"""The error that int8 makes in the layers that read a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.graph import constant_array
from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.sites.records import Reals, Site

CLIPS = (1.0, 0.7, 0.5)
"""Thresholds tried, as shares of the largest magnitude: a range is also chosen when the model is compiled."""
OUTPUTS = 128
"""Output channels of each reader that the loss is taken on."""

SMALLEST_SIGNAL = 0.1
"""Of a row, as a share of the median."""


class SiteLoss:
    """|Q((x - z) / s) Q(diag(s) W) - (x - z) W|^2 over |x W - mean|^2, averaged over rows and readers.

    Each row (a token) counts by its own signal: a few with massive activations would hide what happens to all others.

    Activations are int8 with one scale, the best of `CLIPS`; weights int8 with a scale per output channel.

    Args:
        rows: [rows, channels] of the tensor.
    """

    def __init__(self, site: Site, rows: Reals, qmax: int = 127) -> None:
        self._rows, self._qmax = rows, qmax
        self._weights: list[Reals] = []
        self._signals: list[Reals] = []
        for reader in site.readers:
            weight = constant_array(reader.weight.value)
            assert weight is not None
            matrix = weight.reshape(weight.shape[:2]).astype(np.float32)
            matrix = matrix if reader.weight.axis == 0 else matrix.T
            matrix = matrix[:, :: max(1, matrix.shape[1] // OUTPUTS)]
            product = rows @ matrix
            self._weights.append(matrix)
            signal = np.square(product - product.mean(0)).mean(1)
            self._signals.append(np.maximum(signal, SMALLEST_SIGNAL * float(np.median(signal)) or 1.0))

    def __call__(self, wanted: ShiftScale | None = None, clips: Sequence[float] = CLIPS) -> float:
        """The loss; of the tensor as it is where nothing is given. Parameters are by channel of the readers."""
        rows, weights = self._rows, self._weights
        if wanted is not None:
            scale = wanted.scale.astype(np.float32)
            rows = (rows - wanted.shift.astype(np.float32)) / scale
            weights = [matrix * scale[:, None] for matrix in weights]
        top = float(np.abs(rows).max(initial=0.0))
        if not top:
            return 0.0
        prepared = [_rounded(matrix, self._qmax) for matrix in weights]
        exact = [rows @ matrix for matrix in weights]
        best = np.inf
        for clip in clips:
            step = np.float32(top * clip / self._qmax)
            codes = np.clip(np.rint(rows / step), -self._qmax, self._qmax) * step
            loss = sum(
                float((np.square(codes @ weight - target).mean(1) / signal).mean())
                for weight, target, signal in zip(prepared, exact, self._signals, strict=True)
            )
            best = min(best, loss / len(weights))
        return best


def _rounded(matrix: Reals, qmax: int) -> Reals:
    step = np.maximum(np.abs(matrix).max(0), 1e-30) / qmax
    return np.asarray(np.rint(matrix / step) * step, np.float32)
