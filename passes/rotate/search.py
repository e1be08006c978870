"""The kinds of rotation that gain most at the outputs, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.passes.quant.measure_rewrites import Measured, measure
from qcompiler.passes.rotate.choose_draws import SEEDS
from qcompiler.passes.rotate.rotations import KINDS, ONLINE, ONLY_BELOW_GOAL, Rotation, passes_of
from qcompiler.precision import Precisions
from qcompiler.session import Feeds
from qcompiler.target import Target

GAIN = 0.5
"""Decibels at the outputs that a kind of rotation has to gain, without and with added nodes: less is within the
measurement."""
GAIN_NODES = 1.5
HOPELESS = -0.5
"""A kind that costs this much by itself is not tried again on top of others."""
GAIN_DRAW = 0.2
"""Decibels at the outputs that other signs or orders have to gain over those of seed 0."""


@dataclass(slots=True)
class Search:
    """Combinations measured so far, and the searches over them."""

    model: ir.Model
    target: Target
    feeds: Sequence[Feeds]
    float_nodes: frozenset[str]
    precisions: Precisions
    share: float
    zero_points: bool
    threads: int
    progress: Callable[[], None]
    seen: dict[tuple[Rotation, ...], Measured] = field(default_factory=dict)

    def level(self, rotations: tuple[Rotation, ...]) -> Measured:
        """Measured once for each."""
        if rotations not in self.seen:
            self.seen[rotations] = measure(
                self.model, self.target, passes_of(rotations), self.feeds, float_nodes=self.float_nodes,
                precisions=self.precisions, share=self.share, zero_points=self.zero_points, threads=self.threads,
            )  # fmt: skip
            self.progress()
        return self.seen[rotations]

    def greedy(self, candidates: Sequence[Rotation], goal: float) -> tuple[Rotation, ...]:
        """Take the candidate with the largest surplus over what its kind must gain, and go on with the others."""
        taken: tuple[Rotation, ...] = ()
        left = list(candidates)
        none = self.level(())
        while left:
            now = self.level(taken)
            surplus: dict[Rotation, float] = {}
            for item in list(left):
                if item.kind in ONLY_BELOW_GOAL and now.judged >= goal:
                    continue
                tried = self.level(_ordered((*taken, item)))
                gain = _gain(item, tried, now)
                surplus[item] = gain - (GAIN_NODES if item.kind in ONLINE else GAIN)
                if gain <= HOPELESS:
                    left.remove(item)
                if tried.total < none.total:
                    del surplus[item]
            best = max(surplus, key=lambda item: surplus[item], default=None)
            if best is None or surplus[best] < 0:
                break
            taken = _ordered((*taken, best))
            left = [item for item in left if item != best]
        return taken

    def draws(self, taken: tuple[Rotation, ...], by_site: tuple[Rotation, ...]) -> tuple[Rotation, ...]:
        """The draws chosen site by site, kind after kind, and other signs, the same for all: where they gain at the
        outputs."""
        best = taken
        for item in by_site:
            if item.draws:
                best = self._better(tuple(item if old.kind == item.kind else old for old in best), best)
        for seed in SEEDS:
            best = self._better(tuple(Rotation(item.kind, item.sites, seed) for item in taken), best)
        return best

    def _better(self, tried: tuple[Rotation, ...], best: tuple[Rotation, ...]) -> tuple[Rotation, ...]:
        found, now = self.level(tried), self.level(best)
        kept = found.total >= min(self.level(()).total, now.total)
        return tried if kept and found.judged >= now.judged + GAIN_DRAW else best


def _gain(item: Rotation, tried: Measured, now: Measured) -> float:
    """Queries and keys are read by the attention products alone, without which the others are judged."""
    return tried.total - now.total if item.kind == "scores" else tried.judged - now.judged


def _ordered(rotations: tuple[Rotation, ...]) -> tuple[Rotation, ...]:
    return tuple(sorted(rotations, key=lambda item: KINDS.index(item.kind)))


def label(rotations: tuple[Rotation, ...]) -> str:
    """As a report names them."""
    if not rotations:
        return "none"
    seed = f" seed {rotations[0].seed}" if rotations[0].seed else ""
    return "+".join(f"{item.kind} drawn" if item.draws else item.kind for item in rotations) + seed
