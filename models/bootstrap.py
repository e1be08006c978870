"""Confidence intervals by resampling the items of a test set (Efron 1979, the percentile interval)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.zoo import Array

DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Measure:
    """A score as a function of one row of numbers per test item, so that items can be drawn again cheaply.

    Attributes:
        rows: [items, k], for example edits and characters of each line.
        value: Rows of any draw to the score.
    """

    rows: Array
    value: Callable[[Array], float]

    def point(self) -> float:
        """The score of all items."""
        return self.value(self.rows)


@dataclass(frozen=True, slots=True)
class Interval:
    """A score, the bounds of its interval, and the number of items that it rests on."""

    value: float
    low: float
    high: float
    items: int


def mean(values: Array) -> Measure:
    """The mean of one number per item."""
    return Measure(np.asarray(values, np.float64).reshape(-1, 1), lambda rows: float(rows.mean()))


def ratio(parts: Array, wholes: Array) -> Measure:
    """sum(parts) / sum(wholes): error rates and accuracies over items of different lengths."""
    return Measure(np.stack([parts, wholes], axis=-1).astype(np.float64), _ratio)


def perplexity(nll: Array, tokens: Array) -> Measure:
    """exp(sum(nll) / sum(tokens)), nll in nats."""
    return Measure(np.stack([nll, tokens], axis=-1).astype(np.float64), lambda rows: float(np.exp(_ratio(rows))))


def correlation(a: Array, b: Array, of: Callable[[Array, Array], float]) -> Measure:
    """`of` two numbers per item, for example `metrics.spearman`."""
    return Measure(np.stack([a, b], axis=-1), lambda rows: of(rows[:, 0], rows[:, 1]))


def interval(measure: Measure, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The score with the 2.5% and 97.5% quantiles of its values on `draws` draws of the items with replacement.

    One seed for all models: scores of two models on the same items are resampled alike.
    """
    count = len(measure.rows)
    rng = np.random.default_rng(seed)
    values = [measure.value(measure.rows[rng.integers(0, count, count)]) for _ in range(draws)]
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return Interval(measure.point(), float(low), float(high), count)


def _ratio(rows: Array) -> float:
    sums = rows.sum(axis=0)
    return float(sums[0] / max(sums[1], 1e-30))
