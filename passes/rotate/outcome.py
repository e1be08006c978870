"""What a rotation reports."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.pipeline import Outcome, Skip


def outcome(wanted: Sequence[str] | None, matched: Sequence[str], skipped: Sequence[Skip]) -> Outcome:
    """With a line for each wanted site that the model does not have."""
    known = {*matched, *(item.where for item in skipped)}
    absent = [Skip(name, "no such site") for name in wanted or () if name not in known]
    return Outcome(bool(matched), tuple(matched), (*skipped, *absent))
