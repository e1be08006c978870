"""Bias correction: what quantization shifts in the mean of each output channel, measured and judged on other samples.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721),
section 4.2, in its empirical form: the correction is E[y] - E[y quantized], in forward order, on corrected inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.passes.quant.switched_model import NO_NOISE, decibels
from qcompiler.passes.quant.taught_model import Corrections, TaughtModel
from qcompiler.plan import QuantPlan
from qcompiler.session import Feeds

FEWEST = 4
"""Samples: two to estimate on, two to judge on."""
GAIN = 0.3
"""Decibels that the outputs must gain on samples that the estimate did not see."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Layer to correction by channel, empty where it does not pay; and for the report what was measured."""

    biases: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def estimate_biases(
    model: ir.Model,
    plan: QuantPlan,
    feeds: Sequence[Feeds],
    *,
    threads: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Estimate:
    """Corrections for the layers of `plan`, if the outputs gain.

    Every second sample estimates, the others judge: the mean of their gains in dB has to reach `GAIN` and two standard
    errors. It costs one run of the float and one of the quantized model for each sample that estimates, one and two for
    each that judges, and two sessions.

    Args:
        model: Normalized float model; left as it is.
        feeds: Calibration samples, one row each.
    """
    if len(feeds) < FEWEST or not plan.weights:
        return Estimate({}, {"taken": False, "why": f"it takes {FEWEST} samples and a quantized weight"})
    taught = TaughtModel(model, plan, feeds, threads=threads)
    corrections = _mean_shifts(taught, feeds[::2], progress)
    gains = []
    for feed in feeds[1::2]:
        before, after = (decibels(max(noise, NO_NOISE)) for noise in taught.noises(feed, [{}, corrections]))
        gains.append(after - before)
        progress()
    taken = pays(gains)
    facts = {
        "taken": taken,
        "samples": len(feeds[::2]),
        "judged_on": len(gains),
        "sqnr_gain": round(fmean(gains), 2),
        "standard_error": round(_standard_error(gains), 2),
        "layers": len(corrections),
        "skipped": dict(Counter(item.reason for item in taught.skipped)),
    }
    biases = {layer: np.asarray(numbers, np.float32).tolist() for layer, numbers in corrections.items()}
    return Estimate(biases if taken else {}, facts)


def pays(gains: Sequence[float]) -> bool:
    """Whether gains in dB, one a sample, are enough and no accident of the few samples."""
    return fmean(gains) >= max(GAIN, 2 * _standard_error(gains))


def _standard_error(values: Sequence[float]) -> float:
    return stdev(values) / sqrt(len(values))


def _mean_shifts(taught: TaughtModel, feeds: Sequence[Feeds], progress: Callable[[], None]) -> Corrections:
    """Mean over samples, each counting alike, shrunk by the share of its square that is the error of estimating it.

    A channel whose shift changes its sign from sample to sample is left alone (the positive-part estimator of James and
    Stein, channel by channel).
    """
    totals: dict[str, Any] = {place.layer: np.zeros((2, place.channels)) for place in taught.places}
    for feed in feeds:
        for layer, shift in taught.teach(feed).items():
            wide = shift.astype(np.float64)
            totals[layer] += (wide, wide * wide)
        progress()
    count = len(feeds)
    found = {}
    for layer, (total, squares) in totals.items():
        mean = total / count
        error = np.maximum(squares / count - mean * mean, 0) / (count - 1)
        kept = np.maximum(0.0, 1 - np.divide(error, mean * mean, out=np.ones_like(mean), where=mean != 0))
        found[layer] = mean * kept
    return found
