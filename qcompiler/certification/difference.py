"""What it takes for two tensors to differ."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def relative_difference(wanted: Array, found: Array) -> float:
    """max |wanted - found| / max |wanted|; 0 where equal, NaN and infinities included.

    Integers count as different outright, save that up to 0.1% may move: an arg-max between equal scores.
    """
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return float("inf")
    if wanted.size == 0:
        return 0.0
    if wanted.dtype.kind not in "f":
        return 0.0 if np.mean(wanted != found) <= 1e-3 else float("inf")
    one, other = wanted.astype(np.float64, copy=False), found.astype(np.float64, copy=False)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other)[~same].max()
    peak = np.abs(one[np.isfinite(one)]).max(initial=0.0)
    found_difference = float(difference / peak) if peak else float(difference)
    return float("inf") if np.isnan(found_difference) else found_difference
