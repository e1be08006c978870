"""The clipping rules that leave the outputs closest to float, measured on calibration samples.

Candidates are thresholds that minimize E|x - Q(x)|^p: p = 2 clips outliers hardest, p = infinity not at all. Which is
right depends on what the outliers mean to the model, which no statistic of the tensor alone tells.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.thresholds import least_error_threshold
from qcompiler.passes.quant.switched_model import SwitchedModel

POWERS = (2.0, 2.5, 3.0, math.inf)
Scales = dict[str, float]


def candidates(tensors: Mapping[str, Histogram], qmax: int) -> dict[float, dict[str, float]]:
    """Power p to tensor to threshold."""
    return {
        power: {name: least_error_threshold(item, power, qmax) for name, item in tensors.items() if item.count}
        for power in POWERS
    }


def choose_rule(
    switched: SwitchedModel, nodes: Collection[str], scales: Mapping[float, Scales]
) -> tuple[float, dict[float, float]]:
    """The power that is best for all tensors alike, and the noise that each leaves with `nodes` quantized."""
    measured = {power: switched.noise(nodes, found) for power, found in scales.items()}
    return min(measured, key=lambda power: measured[power]), measured


def refine_by_group(
    switched: SwitchedModel,
    nodes: Collection[str],
    scales: Mapping[float, Scales],
    start: float,
    groups: Sequence[Collection[str]],
) -> tuple[dict[str, float], float]:
    """One sweep over groups of tensors, each taking the power that is best given the others.

    Args:
        groups: Tensor names.

    Returns:
        Tensor to power, and the noise that is left.
    """
    powers = dict.fromkeys(scales[start], start)
    least = switched.noise(nodes, scales[start])
    for group in groups:
        for power in scales:
            tried = powers | dict.fromkeys(group, power)
            if tried == powers:
                continue
            noise = switched.noise(nodes, {tensor: scales[chosen][tensor] for tensor, chosen in tried.items()})
            if noise < least:
                powers, least = tried, noise
    return powers, least
