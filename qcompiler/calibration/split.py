"""Holding samples back from calibration, for validation."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.calibration.data import Source
from qcompiler.calibration.feeds import FeedHasher, rows_in, slice_rows
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.session import Arrays

MAX_HELD_BACK = 16


class Split:
    """One pass over a source: iterate it for calibration, then read `validation`.

    Every k-th feed, k = 1 / share, is kept aside until about 16 samples are. Of a single feed the last rows are; of
    fewer than k feeds the last one is.

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
        pending, index = next(feeds), 0
        while True:
            following = next(feeds, None)
            last = following is None
            due = index % self._every == self._every - 1 and self.validation_count < MAX_HELD_BACK
            if index and (due or (last and not self.validation)):
                hold(pending)
            else:
                if last and not index:
                    pending, held = self._cut(pending)
                    hold(held)
                self.calibration_count += rows_in(pending, inputs)
                calibration.update(pending)
                yield pending
            if following is None:
                break
            pending, index = following, index + 1
        self.calibration_fingerprint, self.validation_fingerprint = calibration.hexdigest(), validation.hexdigest()

    def _cut(self, only: Arrays) -> tuple[Arrays, Arrays]:
        inputs = self.source.inputs
        rows = rows_in(only, inputs)
        if rows < 2 or not any(spec.batch_is_free for spec in inputs):
            message = "the only sample serves for calibration and for validation"
            self.diagnostics.append(
                Diagnostic("QC201", Severity.WARNING, self.source.where, message, "give more samples or --validate")
            )
            return only, only
        kept = rows - min(MAX_HELD_BACK, max(1, rows // self._every))
        return slice_rows(only, inputs, 0, kept), slice_rows(only, inputs, kept, rows)


def hold_back(source: Source, share: float = 0.125) -> Split:
    """A split of `source` that holds back about `share` of it, at least one sample of two and about 16 at most."""
    return Split(source, share)
