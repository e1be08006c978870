"""The error that integers make in the layers that read a tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.equalize.trial_grid import grids
from qcompiler.passes.quant.clip_weights import least_squares_scale
from qcompiler.passes.sites.records import Reals, Site
from qcompiler.precision import Precisions
from qcompiler.scheme import INT8_ACTIVATION, int8_weight

ROWS, OUTPUTS = 64, 96
"""Rows, and output channels of all readers together, that the loss is taken on."""
COMMON = 8.0
"""How much more an error counts that all rows have in common (of rounded weights, mostly): pooling and attention
average errors away that differ from token to token, and no other. In a sentence encoder, scales that left readers
behind GELU 6 dB less error took 15 dB off the output where this was not counted."""
SMALLEST_SIGNAL = 0.1
"""Of a row, as a share of the median."""


class SiteLoss:
    """|Q((x - z) / s) Q(diag(s) W) - (x - z) W|^2 over |x W - mean|^2, averaged over rows and readers.

    The mean error of all rows counts `COMMON` times. Each row (a token) counts by its own signal: a few with massive
    activations would hide what happens to all others.
    The readers' columns stand side by side in one matrix, so that a candidate costs one product for each of `grids`.

    Activations have one scale, that of the best grid; weights a scale per output channel.

    Args:
        rows: [rows, channels] of the tensor.
        precisions: Bits by reader.
        zero_point: Whether the tensor may have one.
    """

    def __init__(self, site: Site, rows: Reals, precisions: Precisions, zero_point: bool = False) -> None:
        self._zero_point = zero_point
        self._rows = rows = rows[:: -(-len(rows) // ROWS) or 1]
        self._qmax, largest = largest_codes(site, precisions)
        each = max(1, OUTPUTS // len(site.readers))
        parts: list[Reals] = []
        weights: list[Reals] = []
        for reader in site.readers:
            matrix = reader.matrix()
            matrix = matrix[:, :: -(-matrix.shape[1] // each)]
            product = rows @ matrix
            signal = np.square(product - product.mean(0)).mean(1)
            signal = np.maximum(signal, SMALLEST_SIGNAL * float(np.median(signal)) or 1.0)
            parts.append(matrix)
            share = matrix.shape[1] * len(site.readers) * max(1, len(rows))
            weights.append(np.repeat(1 / (signal[:, None] * share), matrix.shape[1], axis=1))
        self._weight_qmax = np.repeat(largest, [part.shape[1] for part in parts])
        self._matrix: Reals = np.ascontiguousarray(np.concatenate(parts, axis=1))
        self._worth: Reals = np.concatenate(weights, axis=1)
        self._columns: Reals = self._worth.sum(0)
        self._exact: Reals = rows @ self._matrix

    def __call__(self, wanted: ShiftScale | None = None) -> float:
        """The loss; of the tensor as it is where nothing is given. Parameters are by channel of the readers."""
        rows, matrix, exact = self._rows, self._matrix, self._exact
        if wanted is not None:
            scale, shift = wanted.scale.astype(np.float32), wanted.shift.astype(np.float32)
            rows = (rows - shift) / scale
            matrix = matrix * scale[:, None]
            exact = exact - shift @ self._matrix
        weights_on_grid = rounded(matrix, self._weight_qmax)
        found = []
        for grid in grids(rows, self._qmax, self._zero_point):
            error = grid.codes(rows) @ weights_on_grid
            error *= grid.step
            error -= exact
            own = float(np.einsum("ij,ij,ij->", error, error, self._worth))
            found.append(own + (COMMON - 1) * float(np.square(error.mean(0)) @ self._columns))
        return min(found, default=0.0)


def largest_codes(site: Site, precisions: Precisions) -> tuple[int, list[int]]:
    """Of the tensor, on the widest grid that a reader asks for, and of each reader's weight."""
    wanted = [precisions.of(str(reader.node.name)) for reader in site.readers]
    widths = [item.activations for item in wanted if not item.weight_only]
    return (1 << (max(widths, default=8) - 1)) - 1, [(1 << (item.weights - 1)) - 1 for item in wanted]


def rounded(matrix: Reals, qmax: npt.NDArray[np.int_]) -> Reals:
    """A weight [inputs, outputs] on the grid of each output channel, clipped as plans clip it.

    Args:
        qmax: Largest code of each output channel.
    """
    result = np.empty_like(matrix)
    for largest in sorted(set(qmax.tolist())):
        columns = qmax == largest
        part = matrix[:, columns]
        if largest < INT8_ACTIVATION.qmax:
            step = least_squares_scale(part, replace(int8_weight(1), bits=largest.bit_length() + 1))
        else:
            step = np.maximum(np.abs(part).max(0), 1e-30) / np.float32(largest)
        codes = np.clip(np.rint(part / step), -largest, largest)
        codes *= step
        result[:, columns] = codes
    return result
