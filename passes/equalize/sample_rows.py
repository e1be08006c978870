"""Rows of channels that the readers of each site see, from a few calibration samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.masks import drop_padding, find_mask, masked_axes, padding, symbolic_shape
from qcompiler.passes.quant.select_sites import source_of
from qcompiler.passes.sites.records import Channels, Kind, Reals, Site
from qcompiler.session import Arrays, Feeds, Session

PERCENTILE = 99.5
ROWS = 512
"""Rows kept of each site, over all samples."""
TENSORS_AT_ONCE = 64
"""Tensors that one forward pass returns."""
Opened: TypeAlias = Callable[[Sequence[str]], Callable[[Feeds], Arrays]]
"""Names of tensors to what gives them for a sample."""
Seen: TypeAlias = tuple[ir.Value, int, int, Channels | None]
"""A tensor, the count and the axis of its channels, and which of them (None: all)."""


class Rows:
    """What was seen of one site.

    Attributes:
        low: Smallest value of each channel in all positions.
        high: Largest value of each channel.
    """

    def __init__(self, channels: int) -> None:
        self.low: Reals = np.full(channels, np.inf, np.float32)
        self.high: Reals = np.full(channels, -np.inf, np.float32)
        self._centres: Reals = np.zeros(channels)
        self._samples = 0
        self._parts: list[Reals] = []
        self._inner: tuple[Reals, Reals] | None = None

    def add(self, seen: Reals, count: int) -> None:
        """Take `count` of the rows of one sample, and the bounds of all."""
        if not len(seen):
            return
        low, high = seen.min(0), seen.max(0)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self._centres += (low.astype(np.float64) + high) / 2
        self._samples += 1
        self._inner = None
        taken = np.linspace(0, len(seen) - 1, min(count, len(seen))).astype(int)
        self._parts = [*self._parts, seen[taken]]

    def merge(self, other: Rows) -> Rows:
        """What both have seen."""
        made = Rows(self.low.size)
        made.low, made.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        made._centres, made._samples = self._centres + other._centres, self._samples + other._samples
        made._parts = [*self._parts, *other._parts]
        return made

    @property
    def rows(self) -> Reals:
        """[at most ROWS, channels], evenly taken from the samples."""
        if len(self._parts) != 1:
            self._parts = [np.concatenate([np.zeros((0, self.low.size), np.float32), *self._parts])]
        return self._parts[0]

    @property
    def inner(self) -> tuple[Reals, Reals]:
        """Percentiles of each channel: 100 - PERCENTILE, and PERCENTILE."""
        if self._inner is None:
            low, high = np.percentile(self.rows, (100 - PERCENTILE, PERCENTILE), axis=0)
            self._inner = low, high
        return self._inner

    @property
    def centre(self) -> Reals:
        """Middle of each channel's bounds in a sample, averaged over samples."""
        return self._centres / max(1, self._samples)


def sample_rows(model: ir.Model, sites: Sequence[Site], feeds: Sequence[Feeds], *, threads: int = 0) -> dict[str, Rows]:
    """Run the samples and keep rows by tensor: of each site, and of `tensors_beside` it; padding is left out."""
    return sample_each(model, sites, [feeds], threads=threads)[0]


def sample_each(
    model: ir.Model,
    sites: Sequence[Site],
    sets: Sequence[Sequence[Feeds]],
    *,
    threads: int = 0,
    opened: Opened | None = None,
) -> list[dict[str, Rows]]:
    """The same for several sets of samples.

    Args:
        opened: What runs a model that has the tensors under the same names; None for the model itself.
    """
    run_sample = opened or (lambda names: Session(model, names, threads=threads).run_sample)
    inputs = input_specs(model)
    mask = find_mask(inputs)
    tensors: dict[str, Seen] = {site.name: (site.value, site.channels, site.axis, None) for site in sites}
    for site in sites:
        tensors |= {str(item[0].name): item for item in tensors_beside(site)}
    found = [{name: Rows(item[1]) for name, item in tensors.items()} for _ in sets]
    names = list(tensors)
    for first in range(0, len(names), TENSORS_AT_ONCE):
        part = names[first : first + TENSORS_AT_ONCE]
        run = run_sample(part)
        for rows, feed, count in (
            (rows, feed, len(feeds)) for rows, feeds in zip(found, sets, strict=True) for feed in feeds
        ):
            outputs = run(feed)
            real = padding(feed, mask)
            for name in part:
                value, channels, axis, taken = tensors[name]
                array: np.ndarray[Any, Any] = outputs[name]
                if axis != -1:
                    array = np.moveaxis(array, axis, -1)
                if real is not None and mask is not None and axis == -1:
                    axes = masked_axes(symbolic_shape(value), array.shape, mask, (real.shape[0], real.shape[1]))
                    if axes is not None and array.ndim - 1 not in axes.sequence:
                        array = drop_padding(array, real, axes)
                array = array if taken is None else array[..., taken]
                rows[name].add(array.reshape(-1, channels).astype(np.float32), max(1, ROWS // count))
    return found


def tensors_beside(site: Site) -> Iterator[Seen]:
    """Tensors with the site's channels and other numbers.

    What an attention's value projection gives, before it is mixed; what a reader sees of some positions only.
    """
    if (value := values_of(site)) is not None:
        yield value, site.sources, -1, site.part
    for reader in site.readers:
        read = reader.node.inputs[0]
        if read is not None and source_of(read) is not source_of(site.value):
            yield read, site.channels, input_axis(reader.node), None


def values_of(site: Site) -> ir.Value | None:
    """What the value projection of an attention gives, biased, before it is split into heads; None at other sites."""
    if site.kind is not Kind.VALUE:
        return None
    return (site.bias.node if site.bias is not None else site.scales[0].node).outputs[0]


def input_axis(node: ir.Node) -> int:
    """Of the input channels of a layer with a constant weight, from the end."""
    weight = node.inputs[1]
    assert weight is not None and weight.const_value is not None
    return 1 - len(weight.const_value.shape) if node.op_type in ("Conv", "ConvTranspose") else -1
