"""The clipping rule that leaves the outputs closest to float, measured on calibration samples.

Candidates are thresholds that minimize E|x - Q(x)|^p: p = 2 clips outliers hardest, p = infinity not at all. Which is
right depends on what the outliers mean to the model, which no statistic of the tensor alone tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.thresholds import least_error_threshold
from qcompiler.passes.quant.switched_model import SwitchedModel, decibels

POWERS = (2.0, 2.5, 3.0, math.inf)


def candidates(tensors: Mapping[str, Histogram], qmax: int) -> dict[float, dict[str, float]]:
    """Power p to tensor to threshold."""
    return {
        power: {name: least_error_threshold(item, power, qmax) for name, item in tensors.items() if item.count}
        for power in POWERS
    }


def choose_ranges(
    switched: SwitchedModel, scales: Mapping[float, Mapping[str, float]]
) -> tuple[float, dict[float, float]]:
    """The best power, and for each its outputs' SQNR in dB with everything quantized.

    Args:
        scales: Power to tensor to scale.
    """
    everything = switched.nodes
    measured = {power: decibels(switched.noise(everything, found)) for power, found in scales.items()}
    return max(measured, key=lambda power: measured[power]), measured
