"""Whether the calibration set matters: the spread between sets against the spread between draws of one set.

After the protocol of docs/calibration_sets.md. m(c, s) is the metric for set c and draw s:

between = max_c mean_s m - min_c mean_s m,   within = max_c (max_s m - min_s m),   S = between / max(within, floor).

S <= 2: what the set contains does not matter for this model and this clipping rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 200
IRRELEVANT = 2.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SetSpread:
    """The spreads, in the unit of the metric.

    Attributes:
        floor: Noise of the evaluation: half the width of the 95 % bootstrap interval over the evaluated samples.
        ratio: S; 0 where the sets do not differ at all.
        total: Largest minus smallest m over all sets and draws.
    """

    between: float
    within: float
    floor: float
    ratio: float
    total: float

    @property
    def matters(self) -> bool:
        """Whether the content of the set matters."""
        return self.ratio > IRRELEVANT


def set_spread(metric: Floats, seed: int = 0) -> SetSpread:
    """From the metric of each evaluated sample, [set, draw, sample]; m is the mean over samples.

    The floor bootstraps the metric after the mean over sets and draws is taken from each sample: that one input is
    harder than another adds to no difference between sets, since all sets are judged on the same inputs.
    """
    by_draw = metric.mean(axis=2)
    means = by_draw.mean(axis=1)
    between = float(means.max() - means.min())
    within = float((by_draw.max(axis=1) - by_draw.min(axis=1)).max())
    floor = evaluation_noise(metric, seed)
    ratio = between / max(within, floor) if between > 0 and max(within, floor) > 0 else (np.inf if between > 0 else 0.0)
    total = float(by_draw.max() - by_draw.min())
    return SetSpread(between, within, floor, float(ratio), total)


def evaluation_noise(metric: Floats, seed: int = 0) -> float:
    """The floor; 0 for a single sample, which says nothing about noise."""
    centred = (metric - metric.mean(axis=(0, 1), keepdims=True)).mean(axis=1)  # [set, sample]
    count = centred.shape[1]
    picks = np.random.default_rng([200, seed]).integers(count, size=(RESAMPLES, count))
    low, high = np.percentile(centred[:, picks].mean(axis=2), [2.5, 97.5], axis=1)
    return float((high - low).max() / 2)


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Agreement of two rankings, -1 to 1 (tau a); None for fewer than two items."""
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    if not pairs:
        return None
    return float(np.mean([np.sign(first[i] - first[j]) * np.sign(second[i] - second[j]) for i, j in pairs]))
