"""Plain conclusions, each with the numbers it follows from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qcompiler.analysis.result import Analysis, RuleResult, Verdict
from qcompiler.analysis.set_spread import IRRELEVANT, evaluation_noise

WORTH = 3.0
"""dB: half the noise power. A rewrite that can win less does not earn its place."""


def verdicts(found: Analysis) -> tuple[Verdict, ...]:
    """Do the sets matter, how many samples are enough, are rewrites needed."""
    best = found.best
    if best is None:
        return ()
    return (*_sets(found, best), _samples(found, best), _rewrites(found, best))


def enough_samples(rule: RuleResult) -> tuple[int, float, float]:
    """The smallest size from which on the mean stays within the tolerance of the largest size's; tolerance and gap.

    The tolerance is the larger of half the spread between draws of the largest size and the evaluation noise. No draw
    of a size that is enough may lie more than twice the tolerance below the largest size's mean.
    """
    sizes = sorted(rule.sweep)
    last = rule.sweep[sizes[-1]]
    spread = float(last.mean(axis=1).max() - last.mean(axis=1).min())
    tolerance = max(spread / 2, evaluation_noise(np.stack([rule.sweep[size] for size in sizes])))
    gaps = {size: abs(float(rule.sweep[size].mean() - last.mean())) for size in sizes}
    enough = sizes[-1]
    for size in reversed(sizes):
        own = rule.sweep[size].mean(axis=1)
        steady = float(last.mean()) - float(own.min()) <= 2 * tolerance
        if gaps[size] > tolerance or not steady:
            break
        enough = size
    return enough, tolerance, gaps[enough]


def _sets(found: Analysis, best: RuleResult) -> Iterator[Verdict]:
    """The best rule's verdict, and those of other rules under which the set matters."""
    if len(found.sets) < 2:
        return
    for rule in (best, *(rule for rule in found.rules if rule is not best and rule.spread_of_sets.matters)):
        value = rule.spread_of_sets
        means = rule.decibels.mean(axis=(1, 2))
        low, high, first = (
            found.sets[int(means.argmin())].name,
            found.sets[int(means.argmax())].name,
            found.sets[0].name,
        )
        answer, detail = "what the calibration set contains does not matter", ""
        if value.matters:
            answer, detail = f"the calibration set matters: calibrate on data like {first}", f"; {low} is lowest"
            if means.max() - means[0] > max(value.within, value.floor):
                answer = f"the calibration set matters, and the rule does not suit {first}"
                detail += f", and {high} beats {first} by {means.max() - means[0]:.2f} dB"
        yield Verdict(
            f"sets, {rule.method}",
            answer,
            f"S = {value.ratio:.2f} (bound {IRRELEVANT:g}): {value.between:.2f} dB between sets over "
            f"max({value.within:.2f} dB between draws, {value.floor:.2f} dB evaluation noise){detail}",
        )


def _samples(found: Analysis, best: RuleResult) -> Verdict:
    enough, tolerance, gap = enough_samples(best)
    last = max(best.sweep)
    if len(best.sweep) == 1:
        because = f"{best.method}: {best.mean:.1f} dB; several numbers, --samples 1,8,32, show how many are enough"
        return Verdict("samples", f"only draws of {last} were made", because)
    answer = (
        f"{enough} sample{'s are' if enough > 1 else ' is'} enough" if enough < last else f"take {last} samples or more"
    )
    curve = ", ".join(f"{size}: {values.mean():.1f}" for size, values in sorted(best.sweep.items()))
    return Verdict(
        "samples", answer, f"{best.method}, mean SQNR in dB by number of samples: {curve}; within {tolerance:.2f} dB "
        f"of {last} samples counts as equal, {enough} is {gap:.2f} dB off",
    )  # fmt: skip


def _rewrites(found: Analysis, best: RuleResult) -> Verdict:
    cost = found.outliers
    quality = f"activations alone give {best.mean:.1f} dB with {best.method} (goal {found.goal:g})"
    if found.weights_only is not None:
        quality += f", int8 weights alone {found.weights_only:.1f} dB"
    if cost is None:
        numbers = f"no quantized activation has a channel above 6x its median; {quality}"
        answer = "no rewrite against outliers is needed: put effort into speed"
        if best.mean < found.goal:
            answer = "not outlier channels keep the goal away: keep the worst nodes float"
        return Verdict("effort", answer, numbers)
    numbers = (
        f"outlier channels in {len(cost.tensors)} activations cost {cost.lost:.1f} dB "
        f"({cost.before:.1f} dB, {cost.after:.1f} dB with a range for each of their channels); {quality}"
    )
    if cost.lost < WORTH and best.mean < found.goal:
        return Verdict("effort", "not outlier channels keep the goal away: keep the worst nodes float", numbers)
    if cost.lost < WORTH:
        return Verdict("effort", "rewrites against outliers win little: put effort into speed", numbers)
    if best.mean >= found.goal:
        return Verdict("effort", "rewrites would help, but the goal is met without: put effort into speed", numbers)
    return Verdict("effort", "rewrites that move channel ranges into weights are worth it", numbers)
