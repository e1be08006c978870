"""Rounding a weight row by row, each error made good by the rows that are still to come.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
(arXiv:2210.17323), equations 2 and 3 in the form of its section 3.3 (Cholesky factor, lazy blocks), rows with the
largest second moment first ("act-order" of the released code).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qcompiler.numerics import PAIR_LIMIT
from qcompiler.scheme import FloatArray

DAMPING = 0.1
"""Added to the diagonal of the second moments, as a share of its mean. GPTQ takes 0.01 for calibration sets of hundreds
of thousands of rows; a few thousand leave small directions unknown."""
BLOCK = 128
"""Rows whose errors are spread over all later ones together."""
Reals = npt.NDArray[np.float64]


def compensated_codes(
    weight: npt.NDArray[np.floating],
    scale: FloatArray,
    qmax: int,
    second: FloatArray,
    shift: FloatArray | None = None,
    partners: Sequence[npt.NDArray[np.int64]] = (),
) -> npt.NDArray[np.int8]:
    """Codes c with least E|x W + (x' - x) W - x c s|^2, where x is what the layer reads and x' what it would in float.

    Where `shift` is given, W first becomes W + (E[x^T x] + d)^-1 E[x^T (x' - x)] W, the regression of the float output
    on quantized inputs, which takes out the part of their error that follows from them (clipping, mostly).

    Args:
        weight: W, [inputs, outputs].
        scale: s, broadcasts against W.
        qmax: Largest magnitude of a code.
        second: x^T x over sampled rows, [inputs, inputs].
        shift: x^T (x' - x) over the same rows, [inputs, inputs].
        partners: Of each input the one that a kernel adds in 16 bits with it, -1 for none, in each order that it may
            sum in: the magnitude of their sum stays within `PAIR_LIMIT`.
    """
    moments = second.astype(np.float64)
    diagonal = np.einsum("ii->i", moments)
    damping = DAMPING * float(diagonal.mean()) or 1.0
    diagonal += damping
    wanted: Reals = weight.astype(np.float64)
    if shift is not None:
        wanted += np.linalg.solve(moments, shift.astype(np.float64) @ wanted)
    in_codes: Reals = wanted / scale.astype(np.float64)
    order = np.argsort(-diagonal, kind="stable")
    inverse = np.linalg.inv(moments[np.ix_(order, order)])
    factor: Reals = np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T, np.float64)
    step = np.broadcast_to(scale, weight.shape)[order] if scale.shape[0] > 1 else None
    places = [_places(partner, order) for partner in partners]
    rounded = _spread(in_codes[order], factor, qmax, step, places)
    codes = np.empty(rounded.shape, np.int8)
    codes[order] = rounded
    return codes


def _spread(
    wanted: Reals, factor: Reals, qmax: int, step: FloatArray | None, places: Sequence[npt.NDArray[np.int64]]
) -> Reals:
    """Round row by row; `wanted` is in codes and is used up.

    Args:
        factor: Upper triangular U, U^T U the inverse of the second moments.
        step: Scale of each element where it differs along a column: errors pass from row to row in real numbers.
        places: Of each row the place of its partner; rows before it are rounded already.
    """
    rows = len(wanted)
    rounded = np.zeros_like(wanted)
    for start in range(0, rows, BLOCK):
        stop = min(start + BLOCK, rows)
        block, inner = wanted[start:stop], factor[start:stop, start:stop]
        errors = np.empty_like(block)
        for index in range(stop - start):
            row, place = block[index], start + index
            code = np.clip(np.rint(row), -qmax, qmax)
            for partner in places:
                if 0 <= partner[place] < place:
                    other = rounded[partner[place]]
                    np.clip(code, -PAIR_LIMIT - other, PAIR_LIMIT - other, out=code)
            rounded[place] = code
            error = (row - code) / inner[index, index]
            if step is not None:
                error *= step[place]
            errors[index] = error
            spread = np.outer(inner[index, index + 1 :], error)
            block[index + 1 :] -= spread if step is None else spread / step[place + 1 : stop]
        rest = factor[start:stop, stop:].T @ errors
        wanted[stop:] -= rest if step is None else rest / step[stop:]
    return rounded


def _places(partner: npt.NDArray[np.int64], order: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """The same by place in `order`."""
    at = np.empty(len(order), np.int64)
    at[order] = np.arange(len(order))
    found = partner[order]
    return np.where(found < 0, -1, at[found])
