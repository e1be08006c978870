"""Calibration sets as numbered samples: which are held back, which serve the draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.calibration.data import InputSpec, Source
from qcompiler.calibration.feeds import FeedHasher, can_slice, rows_in, slice_rows
from qcompiler.diagnostics import DiagnosticLog, Severity
from qcompiler.session import Arrays


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """One set after a first pass over it.

    Attributes:
        digests: sha256 of each sample.
        used: Numbers of the samples that serve statistics and draws.
    """

    name: str
    source: Source
    digests: tuple[str, ...]
    used: tuple[int, ...] = ()

    def pool(self) -> Iterator[Arrays]:
        """The samples that are used, in order."""
        wanted = set(self.used)
        last = max(wanted, default=-1)
        for index, sample in enumerate(samples_of(self.source)):
            if index in wanted:
                yield sample
            if index == last:
                return


def samples_of(source: Source) -> Iterator[Arrays]:
    """One sample a feed; what can't be cut stays whole and counts as one."""
    for feed in source:
        yield from samples_in(feed, source.inputs)


def samples_in(feed: Arrays, inputs: Sequence[InputSpec]) -> Iterator[Arrays]:
    """The samples of one feed."""
    if not can_slice(feed, inputs):
        yield feed
        return
    for row in range(rows_in(feed, inputs)):
        yield slice_rows(feed, inputs, row, row + 1)


def survey(name: str, source: Source) -> CalibrationSet:
    """Count and hash the samples."""
    digests = []
    for sample in samples_of(source):
        hasher = FeedHasher()
        hasher.update(sample)
        digests.append(hasher.hexdigest())
    return CalibrationSet(name, source, tuple(digests))


def hold_back(
    sets: Sequence[CalibrationSet], count: int, log: DiagnosticLog, validation: Sequence[str] = ()
) -> tuple[list[CalibrationSet], list[int]]:
    """Sets of equally many samples, none of which is judged on; and the samples of the first set to judge on.

    The samples held back are spread evenly over the first set, at most a quarter of it. A sample of any set with the
    content of one that is held back is left out, and so are samples beyond the smallest set's number: a larger set
    has larger extremes, whatever it contains.

    Args:
        validation: Digests of samples to judge on from elsewhere; nothing is then held back.
    """
    total = len(sets[0].digests)
    held: list[int] = []
    if not validation:
        share = max(1, min(count, total // 4))
        spread = np.linspace(0, total - 1, share + 2)[1:-1].round() if total > 1 else [0]
        held = sorted({int(index) for index in spread})
    forbidden = {sets[0].digests[index] for index in held} | set(validation)
    kept = []
    for item in sets:
        used = [index for index, digest in enumerate(item.digests) if digest not in forbidden]
        left_out = len(item.digests) - len(used) - (len(held) if item is sets[0] else 0)
        if left_out > 0:
            log.add("QC211", Severity.WARNING, item.name, f"{left_out} samples equal ones that quality is judged on",
                    "they are left out")  # fmt: skip
        if not used:
            log.add("QC201", Severity.WARNING, item.name, "its only samples serve for ranges and for judging them",
                    "give more samples or --validate")  # fmt: skip
            used = list(range(len(item.digests)))
        kept.append(used)
    size = min(map(len, kept))
    return [
        CalibrationSet(item.name, item.source, item.digests, tuple(used[:size]))
        for item, used in zip(sets, kept, strict=True)
    ], held
