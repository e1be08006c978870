"""The grid that a tensor would get, for losses that try many of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcompiler.passes.quant.zero_points import STEPS, steps_above
from qcompiler.passes.sites.records import Reals

CLIPS = (1.0, 0.6)
"""Thresholds tried, as shares of the largest magnitude: a range is also chosen when the model is compiled."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Codes `lowest` to `highest` times `step`; zero has code 0, as a zero point only moves the codes."""

    step: np.float32
    lowest: int
    highest: int

    def codes(self, array: Reals) -> Reals:
        """round(x / step), clipped; float32."""
        found: Reals = np.rint(array / self.step)
        np.clip(found, self.lowest, self.highest, out=found)
        return found


def grids(array: Reals, qmax: int, zero_point: bool) -> Iterator[Grid]:
    """One for each of `CLIPS`; none where all is zero.

    Args:
        array: What the tensor holds.
        qmax: Largest code of a symmetric grid.
        zero_point: Whether the tensor may have one, as one-sided tensors on 8 bits do (`choose_zero_points`).
    """
    low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))
    top = max(-low, high)
    if not top:
        return
    for clip in CLIPS:
        positive = steps_above(low, high * clip) if zero_point and qmax == STEPS // 2 else None
        if positive is None:
            yield Grid(np.float32(top * clip / qmax), -qmax, qmax)
        else:
            yield Grid(np.float32(high * clip / positive), positive - STEPS, positive)
