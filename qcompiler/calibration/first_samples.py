"""A few calibration samples for the steps that measure float rewrites before calibration."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.masks import without_padding
from qcompiler.calibration.split import FirstFeeds, hold_back
from qcompiler.graph import weight_bytes
from qcompiler.session import Feeds

LARGEST = 2 << 30
"""Bytes of weights above which measuring takes more memory than it gives."""


def why_not_measured(model: ir.Model, source: Source) -> str:
    """Why rewrites cannot be measured on this data, or ""."""
    if not source.repeatable:
        return "the data can be read only once"
    return "the weights are too large to measure" if weight_bytes(model) > LARGEST else ""


def first_samples(model: ir.Model, source: Source, count: int, *, held_back: bool) -> list[Feeds]:
    """One sample of each of the first `count` feeds, padding cut off.

    Args:
        held_back: Verification takes its share of the same source; those samples are left out.
    """
    kept = FirstFeeds(hold_back(source) if held_back else source, count)
    for _ in kept:
        if len(kept.feeds) == count:
            break
    return [without_padding(feed, input_specs(model)) for feed in kept.feeds]
