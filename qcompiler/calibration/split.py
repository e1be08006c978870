"""Holding samples back from calibration, for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from qcompiler.calibration.data import Source
from qcompiler.calibration.feeds import FeedHasher, can_slice, rows_in, slice_rows
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.session import Arrays

MAX_HELD_BACK = 16


class Split:
    """One pass over a source: iterate it for calibration, then read `validation`.

    One sample of each block of 1 / share is kept aside, 16 at most, as whole feeds or as the last rows of feeds that
    can be cut. Where in its block is scattered but always the same: data that repeats itself (every eighth sample
    long) would else be split by kind. A stream too short for its share gives its last sample.

    Attributes:
        validation: Feeds held back; complete after the pass.
        calibration_count: Samples given to calibration.
        validation_count: Samples held back.
        calibration_fingerprint: sha256 of the feeds given to calibration.
        validation_fingerprint: sha256 of the feeds held back.
        diagnostics: QC201 where one sample had to serve for both.
    """

    def __init__(self, source: Source, share: float) -> None:
        if not 0 < share <= 0.5:
            raise ValueError(f"a share lies in (0, 0.5], not {share}")
        self.source = source
        self.validation: list[Arrays] = []
        self.calibration_count = self.validation_count = 0
        self.calibration_fingerprint = self.validation_fingerprint = ""
        self.diagnostics: list[Diagnostic] = []
        self._every = max(2, round(1 / share))

    def __iter__(self) -> Iterator[Arrays]:
        """The feeds for calibration."""
        self.validation, self.diagnostics = [], []
        self.calibration_count = self.validation_count = 0
        inputs = self.source.inputs
        calibration, validation = FeedHasher(), FeedHasher()

        def hold(feed: Arrays) -> None:
            self.validation.append(feed)
            self.validation_count += rows_in(feed, inputs)
            validation.update(feed)

        feeds = iter(self.source)
        pending, seen = next(feeds), 0
        while True:
            following = next(feeds, None)
            rows, first = rows_in(pending, inputs), not seen
            seen += rows
            due = min(MAX_HELD_BACK, self._due(seen)) - self.validation_count
            if following is None and not self.validation:
                due = max(1, due)
            kept: Arrays | None = pending
            if 0 < due < rows and can_slice(pending, inputs):
                kept = slice_rows(pending, inputs, 0, rows - due)
                hold(slice_rows(pending, inputs, rows - due, rows))
            elif due >= rows or (following is None and not self.validation):
                hold(pending)
                kept = pending if first else None
                if first:
                    message = "the only sample serves for calibration and for validation"
                    hint = "give more samples or --validate"
                    self.diagnostics.append(Diagnostic("QC201", Severity.WARNING, self.source.where, message, hint))
            if kept is not None:
                self.calibration_count += rows_in(kept, inputs)
                calibration.update(kept)
                yield kept
            if following is None:
                break
            pending = following
        self.calibration_fingerprint, self.validation_fingerprint = calibration.hexdigest(), validation.hexdigest()

    def _due(self, seen: int) -> int:
        """How many of the first `seen` samples are held back: all of full blocks, and of the last one if it came."""
        block, inside = divmod(seen, self._every)
        return block + (inside > _place(block, self._every))


def _place(block: int, size: int) -> int:
    """Where in a block the sample is that is held back; never the first of all, which calibration starts with."""
    first = int(block == 0)
    return first + hashlib.sha256(f"{block}".encode()).digest()[0] % (size - first)


def hold_back(source: Source, share: float = 0.125) -> Split:
    """A split of `source` that holds back about `share` of it, at least one sample of two and 16 at most."""
    return Split(source, share)


class FirstFeeds:
    """Feeds handed on as they are, with the first few kept.

    Attributes:
        feeds: One sample of each of the first `count` feeds.
    """

    def __init__(self, batches: Split | Source, count: int) -> None:
        self.feeds: list[Arrays] = []
        self._batches, self._count = batches, count

    def __iter__(self) -> Iterator[Arrays]:
        inputs = (self._batches.source if isinstance(self._batches, Split) else self._batches).inputs
        for feed in self._batches:
            if len(self.feeds) < self._count:
                self.feeds.append(slice_rows(feed, inputs, 0, 1))
            yield feed
