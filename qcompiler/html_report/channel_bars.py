"""Channel ranges before and after rewrites, small enough for a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.calibration.layer_ranges import ChannelChange, LayerInput

BARS = 128
"""Neighbouring channels share a bar where there are more; it spans all of theirs."""
DRAWN = 120
"""Tensors with bars; of further ones only the figures stay."""


def channel_bars(changes: Sequence[ChannelChange]) -> list[dict[str, Any]]:
    """A dict for each tensor, those first whose spread sank most: "readers", "channels", "before" and "after".

    These two have "tensor", "largest" (of all |x|), "spread" (that over the median channel's largest |x|), "low" and
    "high" by bar.
    """
    found: list[dict[str, Any]] = [
        {
            "readers": list(change.readers),
            "channels": int(change.before.ranges.high.size),
            "before": _side(change.before),
            "after": _side(change.after),
        }
        for change in changes
    ]
    found.sort(key=lambda item: item["after"]["spread"] / max(item["before"]["spread"], 1e-30))
    for item in found[DRAWN:]:
        for side in ("before", "after"):
            item[side]["low"] = item[side]["high"] = []
    return found


def _side(found: LayerInput) -> dict[str, Any]:
    low, high, peaks = found.ranges.low, found.ranges.high, found.ranges.peaks
    starts = np.unique(np.linspace(0, high.size, min(BARS, high.size), endpoint=False).astype(np.int64))
    largest = float(peaks.max(initial=0))
    median = float(np.median(peaks)) if peaks.size else 0.0
    return {
        "tensor": found.tensor,
        "largest": _short(largest),
        "spread": _short(largest / max(median, 1e-30)) if largest else 1.0,
        "low": [_short(value) for value in np.minimum.reduceat(low, starts)],
        "high": [_short(value) for value in np.maximum.reduceat(high, starts)],
    }


def _short(value: Any) -> float:
    return float(f"{float(value):.3g}")
