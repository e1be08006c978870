"""Comparing candidates sample by sample, with no more measurements than it takes to know the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Generic, TypeVar

ENOUGH = 1.0
"""Standard error in dB at which the difference of two candidates is known well enough."""
Candidate = TypeVar("Candidate")


@dataclass(frozen=True, slots=True)
class Race(Generic[Candidate]):
    """What came out.

    Attributes:
        alive: Those that were not given up, the best among them.
        measured: Decibels by sample of each candidate, on as many samples as it was measured on.
    """

    best: Candidate
    alive: tuple[Candidate, ...]
    measured: dict[Candidate, list[float]]


def race(
    candidates: Iterable[Candidate],
    measure: Callable[[Candidate, int], float],
    samples: int,
    *,
    fewest: int,
    deviation: float = 1.0,
    enough: float = ENOUGH,
) -> Race[Candidate]:
    """Find the candidate with the largest mean.

    After every second sample a candidate is given up that is worse than the best by more than two standard errors of
    their difference; measuring ends when the differences that are left are known well enough. So a smooth model
    takes a few samples, and one whose outputs tip over between classes takes many. Differences are paired: samples
    scatter far more than candidates on the same sample do.

    Args:
        candidates: At least one; of equal ones the first wins.
        measure: Decibels of a candidate on the sample of an index.
        samples: How many there are.
        fewest: So many are taken before measuring may end.
        deviation: Of differences, in dB, that a few samples which happen to agree do not rule out.
        enough: Standard error in dB at which a difference is known well enough.
    """
    measured: dict[Candidate, list[float]] = {item: [] for item in candidates}
    alive = list(measured)
    best = alive[0]
    for index in range(samples):
        for item in alive:
            measured[item].append(measure(item, index))
        best = max(alive, key=lambda item: fmean(measured[item]))
        if index % 2 == 0:
            continue
        gaps = {item: [a - b for a, b in zip(measured[best], measured[item], strict=True)] for item in alive}
        alive = [item for item in alive if fmean(gaps[item]) <= 2 * standard_error(gaps[item], deviation)]
        if index + 1 >= fewest and all(standard_error(gaps[item], 0.0) <= enough for item in alive):
            break
    return Race(best, tuple(alive), measured)


def standard_error(values: Sequence[float], prior: float) -> float:
    """Of the mean, where `prior` is added to the deviation of the values."""
    return math.sqrt((variance(values) + prior * prior) / len(values))
