"""What an analysis found; everything that is printed, plotted and written comes from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.collect import SetStatistics
from qcompiler.analysis.set_spread import SetSpread, set_spread
from qcompiler.calibration.thresholds import Method
from qcompiler.diagnostics import Diagnostic

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One conclusion and the numbers it follows from."""

    topic: str
    answer: str
    because: str


@dataclass(frozen=True, slots=True)
class RangeSpread:
    """How far the chosen ranges of one rule differ, as ratios of the largest to the smallest, by tensor.

    Attributes:
        within: Size to (median, worst) over tensors of max over min between the draws of the first set.
        between: (median, worst) over tensors of max over min between sets, each the geometric mean of its draws at the
            largest size; None for a single set.
        worst_tensor: Where sets differ most; empty for a single set.
        growth: Size to (smallest, mean, largest) over draws of the first set: the range over that of the largest size
            (mean of its draws), geometric mean over tensors.
    """

    within: Mapping[int, tuple[float, float]]
    between: tuple[float, float] | None
    worst_tensor: str
    growth: Mapping[int, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One clipping rule.

    Attributes:
        decibels: SQNR of the outputs with quantized activations, [set, seed, sample], at the largest size.
        sweep: Size to [seed, sample] for the first set.
    """

    method: Method
    decibels: Floats
    sweep: Mapping[int, Floats]
    ranges: RangeSpread

    @property
    def mean(self) -> float:
        """Of the first set at the largest size."""
        return float(self.decibels[0].mean())

    @property
    def spread_of_sets(self) -> SetSpread:
        """Between sets against between draws; meaningful for two sets and more."""
        return set_spread(self.decibels)


@dataclass(frozen=True, slots=True)
class OutlierCost:
    """SQNR in dB as it is, and with every channel of `tensors` brought to one range (see `ideal_channels`)."""

    tensors: tuple[str, ...]
    before: float
    after: float

    @property
    def lost(self) -> float:
        """dB that outlier channels cost."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Analysis:
    """The whole result.

    Attributes:
        sources: Set name to kind, place, samples and fingerprint of its data.
        evaluated: Number of samples that quality is judged on, and where they come from.
        rules: Empty where the planner would quantize no activation.
        weights_only: SQNR with int8 weights and float activations; None without weights.
        tau: Set name to Kendall's tau between its ranking of the rules and the first set's.
        goal: SQNR in dB that a compile aims at.
    """

    model: str
    target: str
    sources: Mapping[str, Mapping[str, object]]
    sets: tuple[SetStatistics, ...]
    evaluated: tuple[int, str]
    sizes: tuple[int, ...]
    seeds: int
    rules: tuple[RuleResult, ...]
    weights_only: float | None
    outliers: OutlierCost | None
    tau: Mapping[str, float | None]
    goal: float
    verdicts: tuple[Verdict, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def best(self) -> RuleResult | None:
        """The rule with the highest SQNR on the first set."""
        return max(self.rules, key=lambda rule: rule.mean, default=None)
