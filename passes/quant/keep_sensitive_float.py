"""Mixed precision by measurement: the few nodes whose quantization hurts the outputs most stay float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from qcompiler.passes.quant.racing import race
from qcompiler.passes.quant.switched_model import NO_NOISE, SwitchedModel, decibels

WORTH = 1.5
"""A unit stays float only where the outputs gain so many dB (30% of the noise): less is not worth a float island."""
SCATTER = 0.5
"""Gains are expected to scatter from sample to sample half as much as the outputs' SQNR does."""


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
    rules: Sequence[Mapping[str, float]],
    groups: Sequence[Sequence[str]],
    *,
    goal: float,
    share: float,
    known: Sequence[float] = (),
    rounds: int | None = None,
    fewest: int = 2,
    split: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Sensitivity:
    """Find what to keep float until the outputs reach `goal` dB, or `share` of the multiply-adds is float.

    Each round keeps float the group that takes most noise away; groups above the budget are passed over. So many
    measurements as there are groups, not nodes, on as many samples as it takes to tell the groups apart.

    Args:
        rules: Tensor to scale, by the best clipping rule and by those that may be as good: what a group gains can
            depend on the rule (attention products that hide behind the noise of too hard clipping).
        known: SQNR in dB of the first samples with everything quantized, where it was measured before.
        rounds: How many groups to keep float at most; None for no limit.
        fewest: How many samples each measurement takes at least.
        split: Then go on with the single nodes of the group that hurts most.
    """
    kept = set(switched.nodes)
    total = sum(switched.costs.values()) or 1
    budget = share * total
    reasons: dict[str, str] = {}
    units = [tuple(group) for group in groups]
    base = dict(enumerate(known))
    rule = 0

    def level(index: int, rule: int, unit: tuple[str, ...] = ()) -> float:
        return decibels(max(switched.sample_noise(index, kept.difference(unit), rules[rule]), NO_NOISE))

    def gain(candidate: tuple[int, tuple[str, ...]], index: int) -> float:
        if not candidate[1]:
            return WORTH
        if index not in base:
            base[index] = level(index, rule)
        return level(index, *candidate) - base[index]

    for index in range(len(base), min(fewest, switched.samples)):
        base[index] = level(index, rule)
    before = after = fmean(base.values())
    while after < goal and (rounds is None or rounds > 0):
        fitting = {unit for unit in units if unit and sum(switched.costs[name] for name in unit) <= budget}
        candidates = [(tried, unit) for unit in dict.fromkeys(units) if unit in fitting for tried in range(len(rules))]
        found = race(
            [(rule, ()), *candidates], gain, switched.samples, fewest=fewest,
            deviation=max(1.0, SCATTER * pstdev(base.values())),
        )  # fmt: skip
        progress()
        if not found.best[1]:
            if not split:
                break
            units, split = _members_of_worst(switched, rules[rule], units, kept), False
            continue
        rule, best = found.best
        kept.difference_update(best)
        budget -= sum(switched.costs[name] for name in best)
        gained = fmean(found.measured[found.best])
        reasons.update(dict.fromkeys(best, f"sensitive: in float the outputs gain {gained:.1f} dB"))
        units = [rest for unit in units if (rest := tuple(name for name in unit if name in kept))]
        rounds = None if rounds is None else rounds - 1
        base = {index: base[index] + change for index, change in enumerate(found.measured[found.best])}
        after += gained
    return Sensitivity(before, after, reasons)


def _members_of_worst(
    switched: SwitchedModel, scales: Mapping[str, float], units: Sequence[tuple[str, ...]], kept: set[str]
) -> list[tuple[str, ...]]:
    """The nodes of the group without which least noise is left, each a unit of its own."""
    large = [unit for unit in units if len(unit) > 1]
    if not large:
        return []
    worst = min(large, key=lambda unit: switched.noise(kept.difference(unit), scales))
    return [(name,) for name in worst]
