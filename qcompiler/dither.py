"""Dither for states that are rounded at every step: rounding up as often as the fraction says, told from the state.

A state that decays slowly changes by less than half a code a step. Rounded to the nearest code it stands still, and
what it should have lost adds up for as long as the text goes on. With code = round(h / s + u - 1/2), u even over
[0, 1), the mean of the code is h / s (stochastic rounding: Forsythe 1950; Croci et al., arXiv:2103.12391). Here

    u[n] = fraction of (SPREAD * mean(h) / s + n * golden ratio),

n the place along the last axis: it needs no generator and no further state, zero and whole codes stay as they are, and
the same inputs give the same codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SPREAD = 64.0
"""A step moves the mean of a state by hundredths of a code and more; times this, by about a whole turn."""
_GOLDEN = (np.sqrt(5.0) - 1) / 2


def phases(count: int) -> npt.NDArray[np.float32]:
    """n * golden ratio modulo 1: any few neighbours are spread evenly."""
    return np.asarray(np.arange(count) * _GOLDEN % 1.0, np.float32)


def dither(state: npt.NDArray[Any], scale: float) -> npt.NDArray[np.float32]:
    """u - 1/2 for a state [batch, ..., N]: one number for each n, as codes."""
    axes = tuple(range(1, state.ndim))
    mean = state.astype(np.float32).mean(axis=axes, keepdims=True, dtype=np.float32)
    turns = mean * np.float32(SPREAD / scale) + phases(state.shape[-1])
    return np.asarray(turns - np.floor(turns) - np.float32(0.5), np.float32)
