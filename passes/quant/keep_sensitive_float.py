"""Mixed precision by measurement: the few nodes whose quantization hurts the outputs most stay float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qcompiler.passes.quant.switched_model import SwitchedModel, decibels

WORTH = 0.7
"""A unit stays float only where that takes away 30% of the noise (1.5 dB): less is not worth a float island."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What was measured.

    Attributes:
        before: SQNR in dB of the outputs with everything quantized.
        after: The same with `reasons` in float.
        reasons: Node kept float to why.
    """

    before: float
    after: float
    reasons: dict[str, str]


def keep_sensitive_float(
    switched: SwitchedModel,
    scales: Mapping[str, float],
    groups: Sequence[Sequence[str]],
    *,
    goal: float,
    share: float,
    rounds: int | None = None,
    samples: int | None = None,
    split: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Sensitivity:
    """Find what to keep float until the outputs reach `goal` dB, or `share` of the multiply-adds is float.

    Each round keeps float the group that takes most noise away; groups above the budget are passed over. So many
    measurements as there are groups, not nodes.

    Args:
        rounds: How many groups to keep float at most; None for no limit.
        samples: How many samples each measurement takes; None for all.
        split: Then go on with the single nodes of the group that hurts most.
    """
    kept = set(switched.nodes)
    total = sum(switched.costs.values()) or 1
    budget = share * total
    noise = before = switched.noise(kept, scales, samples=samples)
    reasons: dict[str, str] = {}
    units = [tuple(group) for group in groups]
    while decibels(noise) < goal and (rounds is None or rounds > 0):
        fitting = [unit for unit in dict.fromkeys(units) if sum(switched.costs[name] for name in unit) <= budget]
        tried = {}
        for unit in fitting:
            tried[unit] = switched.noise(kept.difference(unit), scales, samples=samples)
            progress()
        best = min(tried, key=lambda unit: tried[unit], default=None)
        if best is None or tried[best] > WORTH * noise:
            if not split:
                break
            units, split = _members_of_worst(switched, scales, units, kept), False
            continue
        kept.difference_update(best)
        budget -= sum(switched.costs[name] for name in best)
        gain = decibels(tried[best]) - decibels(noise)
        reasons.update(dict.fromkeys(best, f"sensitive: in float the outputs gain {gain:.1f} dB"))
        units = [rest for unit in units if (rest := tuple(name for name in unit if name in kept))]
        rounds = None if rounds is None else rounds - 1
        noise = tried[best]
    return Sensitivity(decibels(before), decibels(noise), reasons)


def _members_of_worst(
    switched: SwitchedModel, scales: Mapping[str, float], units: Sequence[tuple[str, ...]], kept: set[str]
) -> list[tuple[str, ...]]:
    """The nodes of the group without which least noise is left, each a unit of its own."""
    large = [unit for unit in units if len(unit) > 1]
    if not large:
        return []
    worst = min(large, key=lambda unit: switched.noise(kept.difference(unit), scales))
    return [(name,) for name in worst]
