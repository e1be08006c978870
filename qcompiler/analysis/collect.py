"""One pass over a calibration set: statistics of every activation, and clipping thresholds of every draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.draws import DrawHistograms, Draws
from qcompiler.analysis.layout import layout_of
from qcompiler.analysis.prepare import Subject
from qcompiler.analysis.samples import CalibrationSet
from qcompiler.analysis.tensor_statistics import TensorStatistics, TensorSummary
from qcompiler.calibration.inputs import InputSpec, input_specs
from qcompiler.calibration.masks import Mask, find_mask, masked_axes, padding, symbolic_shape
from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.runner import MEMORY_BOUND, split_by_bytes
from qcompiler.calibration.thresholds import Method, find_threshold
from qcompiler.errors import CalibrationError
from qcompiler.session import Feeds, Session

Thresholds = dict[str, float]
"""Source tensor to the magnitude that maps to qmax."""


@dataclass(frozen=True, slots=True)
class SetStatistics:
    """What one set showed.

    Attributes:
        tensors: By name; tensors without a single element are missing.
        thresholds: By rule, size and seed.
    """

    name: str
    samples: int
    tensors: Mapping[str, TensorSummary]
    thresholds: Mapping[Method, Mapping[tuple[int, int], Thresholds]]

    @property
    def elements(self) -> int:
        """Elements of all tensors: sets of different lengths differ here."""
        return sum(item.elements for item in self.tensors.values())


def collect(
    subject: Subject,
    data: CalibrationSet,
    draws: Draws,
    methods: Sequence[Method],
    *,
    qmax: int,
    percentile: float = 99.99,
    threads: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> SetStatistics:
    """Run the model once on each sample; each is forgotten before the next.

    Raises:
        CalibrationError: An activation that is NaN or infinite, a sample that the model can't run.
    """
    graph = subject.model.graph
    values = {value.name: value for value in (*graph.inputs, *(out for node in graph for out in node.outputs))}
    observed = {name: values[name] for name in subject.tensors}
    inputs = input_specs(subject.model)
    mask = find_mask(inputs)
    batches = {spec.batch for spec in inputs if spec.batch_is_free and isinstance(spec.batch, str)}
    statistics: dict[str, TensorStatistics] = {}
    drawn = {name: DrawHistograms(len(draws.sizes) * draws.seeds) for name in subject.sources}
    times = draws.times().reshape(-1, draws.samples)
    for index, (sample, arrays) in enumerate(_activations(subject.model, observed, inputs, data, threads)):
        real = padding(sample, mask)
        for name, array in arrays.items():
            if name not in statistics:
                statistics[name] = TensorStatistics(name, layout_of(observed[name], array.ndim, batches))
            for sequence in _sequences(array, observed[name], mask, real):
                histogram = _histogram(name, sequence)
                statistics[name].observe(sequence, histogram)
                if name in drawn:
                    drawn[name].add(histogram, times[:, index])
        advance()
    thresholds: dict[Method, dict[tuple[int, int], Thresholds]] = {method: {} for method in methods}
    cells = [(size, seed) for size in draws.sizes for seed in range(draws.seeds)]
    for name, item in drawn.items():
        for cell, histogram in zip(cells, item.histograms(), strict=True):
            for method in methods:
                if histogram.count:
                    found = find_threshold(histogram, method, qmax=qmax, percentile=percentile).value
                    thresholds[method].setdefault(cell, {})[subject.sources[name]] = found
    summaries = {name: item.summary(qmax) for name, item in statistics.items() if item.histogram.count}
    return SetStatistics(data.name, draws.samples, summaries, thresholds)


def _activations(
    model: ir.Model, values: Mapping[str, ir.Value], inputs: Sequence[InputSpec], data: CalibrationSet, threads: int
) -> Iterator[tuple[Feeds, dict[str, np.ndarray[Any, Any]]]]:
    """Each sample with its tensors; several sessions share them where they exceed the memory bound.

    The samples of a draw run one by one, so that the statistics of a sequence are its own.
    """
    fed = {spec.name for spec in inputs}
    inner = [name for name in values if name not in fed]
    sessions: list[Session] = []
    planned = 0
    for sample in data.pool():
        size = sum(array.size for array in sample.values())
        chunks = split_by_bytes(values, inner, sample, inputs, MEMORY_BOUND) if size > planned else []
        planned = max(planned, size)
        if len(chunks) > len(sessions):
            sessions = [Session(model, chunk, threads=threads) for chunk in chunks]
        arrays = {name: sample[name] for name in values if name in fed}
        for session in sessions:
            arrays |= {name: array for name, array in session.run_sample(sample).items() if name in values}
        yield sample, arrays


def _sequences(
    array: np.ndarray[Any, Any], value: ir.Value, mask: InputSpec | None, real: Mask | None
) -> list[np.ndarray[Any, Any]]:
    """The array without padding, with its axes: one a row of the mask, or the whole array where nothing is padded."""
    if mask is None or real is None:
        return [array]
    axes = masked_axes(symbolic_shape(value), array.shape, mask, (real.shape[0], real.shape[1]))
    if axes is None:
        return [array]
    if axes.flat:
        return [array[real.reshape(-1)]]
    pieces = []
    for row, kept in enumerate(real):
        piece = array[row * axes.heads : (row + 1) * axes.heads]
        for axis in axes.sequence:
            piece = np.compress(kept, piece, axis=axis)
        pieces.append(piece)
    return pieces


def _histogram(name: str, array: np.ndarray[Any, Any]) -> Histogram:
    try:
        return Histogram().observe(array)
    except CalibrationError as error:
        raise CalibrationError(error.message, where=f"tensor {name}", hint="remove the sample") from error
