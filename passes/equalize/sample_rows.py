"""Rows of channels that the readers of each site see, from a few calibration samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.masks import drop_padding, find_mask, masked_axes, padding, symbolic_shape
from qcompiler.passes.sites.records import Reals, Site
from qcompiler.session import Feeds, Session

ROWS = 192
"""Rows kept of each site, over all samples."""
SITES_AT_ONCE = 64
"""Tensors that one forward pass returns."""


class Rows:
    """What was seen of one site.

    Attributes:
        rows: [at most ROWS, channels], evenly taken from the samples.
        low: Smallest value of each channel in all positions.
        high: Largest value of each channel.
    """

    def __init__(self, channels: int) -> None:
        self.rows: Reals = np.zeros((0, channels), np.float32)
        self.low: Reals = np.full(channels, np.inf, np.float32)
        self.high: Reals = np.full(channels, -np.inf, np.float32)

    def add(self, seen: Reals, count: int) -> None:
        """Take `count` of these rows and the bounds of all."""
        if not len(seen):
            return
        self.low, self.high = np.minimum(self.low, seen.min(0)), np.maximum(self.high, seen.max(0))
        taken = np.linspace(0, len(seen) - 1, min(count, len(seen))).astype(int)
        self.rows = np.concatenate([self.rows, seen[taken]])


def sample_rows(model: ir.Model, sites: Sequence[Site], feeds: Sequence[Feeds], *, threads: int = 0) -> dict[str, Rows]:
    """Run the samples and keep rows of each site; positions of padding are left out."""
    inputs = input_specs(model)
    mask = find_mask(inputs)
    found = {site.name: Rows(site.channels) for site in sites}
    count = max(1, ROWS // max(1, len(feeds)))
    for first in range(0, len(sites), SITES_AT_ONCE):
        part = sites[first : first + SITES_AT_ONCE]
        session = Session(model, [site.name for site in part], threads=threads)
        for feed in feeds:
            outputs = session.run_sample(feed)
            real = padding(feed, mask)
            for site in part:
                array: np.ndarray[Any, Any] = outputs[site.name]
                if site.axis != -1:
                    array = np.moveaxis(array, site.axis, -1)
                if real is not None and mask is not None and site.axis == -1:
                    axes = masked_axes(symbolic_shape(site.value), array.shape, mask, (real.shape[0], real.shape[1]))
                    if axes is not None and array.ndim - 1 not in axes.sequence:
                        array = drop_padding(array, real, axes)
                found[site.name].add(array.reshape(-1, site.channels).astype(np.float32), count)
    return found
