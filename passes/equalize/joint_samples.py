"""What a few samples show between the readers of a site and their joint end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.inputs import InputSpec, input_specs
from qcompiler.calibration.masks import drop_padding, find_mask, masked_axes, padding, symbolic_shape, without_padding
from qcompiler.passes.equalize.joint_end import JointEnd, graph_places, joint_end
from qcompiler.passes.sites.records import Channels, Reals, Site
from qcompiler.session import Arrays, Feeds, Session

SAMPLES, MOST_SAMPLES, POSITIONS = 4, 16, 64
"""Samples that joint losses are taken on; more where they are short, as steps of a decoder are, until so many positions
have been seen."""
SITES_AT_ONCE = 16
"""Sites whose tensors one forward pass returns."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A float32 tensor [.., channels], and which of its positions are no padding."""

    array: Reals
    real: Channels

    @property
    def flat(self) -> Reals:
        """[real positions, channels]."""
        return self.array.reshape(-1, self.array.shape[-1])[self.real]


@dataclass(frozen=True, slots=True)
class Seen:
    """One sample at one site.

    Attributes:
        read: What each reader reads; one object where several read one tensor.
        end: The joint end of the float model.
        beside: What else the nodes between them read.
    """

    read: tuple[Rows, ...]
    end: Rows
    beside: Arrays


class JointSamples:
    """The joint ends of a model's sites, and what the samples show there; sites are asked for in their order.

    Args:
        model: In canonical form; left as it is.
        feeds: Calibration samples, of which a few are taken, evenly; padding behind them is cut off.
    """

    def __init__(self, model: ir.Model, sites: Sequence[Site], feeds: Sequence[Feeds], *, threads: int = 0) -> None:
        self._model, self._threads = model, threads
        places = graph_places(model)
        ends = ((site, joint_end(site, places)) for site in sites)
        self._ends = {site.name: (site, end) for site, end in ends if end is not None and _is_typed(site, end)}
        self._inputs = input_specs(model)
        spread = np.unique(np.linspace(0, len(feeds) - 1, min(MOST_SAMPLES, len(feeds))).astype(int)).tolist()
        rounds = -(-len(spread) // SAMPLES)
        self._feeds = [feeds[index] for first in range(rounds) for index in spread[first::rounds]]
        self._seen: dict[str, list[Seen]] = {}

    def of(self, site: Site) -> tuple[JointEnd, list[Seen]] | None:
        """The joint end of a site and what each sample shows there; None where there is none."""
        if site.name not in self._ends or not self._feeds:
            return None
        if site.name not in self._seen:
            names = list(self._ends)
            first = names.index(site.name)
            self._seen = self._observe([self._ends[name] for name in names[first : first + SITES_AT_ONCE]])
        return self._ends[site.name][1], self._seen.pop(site.name)

    def _observe(self, ends: Sequence[tuple[Site, JointEnd]]) -> dict[str, list[Seen]]:
        names = {str(value.name) for site, end in ends for value in (*_read(site), end.value, *end.beside)}
        session = Session(self._model, sorted(names), threads=self._threads)
        found: dict[str, list[Seen]] = {site.name: [] for site, _ in ends}
        for count, sample in enumerate(self._feeds):
            least = min(sum(len(item.end.real) for item in items) for items in found.values())
            if count >= SAMPLES and least >= POSITIONS:
                break
            feed = without_padding(sample, self._inputs)
            arrays = dict(feed) | session.run_sample(feed)
            for site, end in ends:
                rows = {value: _rows(value, arrays, feed, self._inputs) for value in (*_read(site), end.value)}
                beside = {str(value.name): arrays[str(value.name)] for value in end.beside}
                found[site.name].append(Seen(tuple(rows[value] for value in _read(site)), rows[end.value], beside))
        return found


def _read(site: Site) -> list[ir.Value]:
    return [value for reader in site.readers if (value := reader.node.inputs[0]) is not None]


def _is_typed(site: Site, end: JointEnd) -> bool:
    values = (*_read(site), *(reader.node.outputs[0] for reader in site.readers), *end.beside, end.value)
    return all(value.dtype is not None for value in values)


def _rows(value: ir.Value, arrays: Arrays, feed: Feeds, inputs: Sequence[InputSpec]) -> Rows:
    array = arrays[str(value.name)]
    leading, mask = array.shape[:-1], find_mask(inputs)
    every = np.arange(math.prod(leading))
    real = padding(feed, mask)
    if real is not None and mask is not None:
        axes = masked_axes(symbolic_shape(value), array.shape, mask, (real.shape[0], real.shape[1]))
        if axes is not None and array.ndim - 1 not in axes.sequence:
            every = drop_padding(every.reshape(*leading, 1), real, axes).reshape(-1)
    return Rows(array.astype(np.float32), every)
