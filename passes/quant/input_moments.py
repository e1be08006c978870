"""Second moments of what layers read, on their own grids, over calibration samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.feeds import can_slice, rows_in, slice_rows
from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.masks import drop_padding, find_mask, masked_axes, padding, symbolic_shape, without_padding
from qcompiler.calibration.split import Split
from qcompiler.numerics import dequantize, quantize
from qcompiler.passes.quant.weighted_sums import WeightedSum
from qcompiler.scheme import FloatArray, TensorQuant
from qcompiler.session import Feeds, Session

ROWS = 512
"""Of one sample, evenly taken."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over rows of x, what a layer reads, and x', what it would read in float.

    Attributes:
        second: x^T x, float32 [inputs, inputs].
        shift: x^T (x' - x), likewise; None where x is not quantized.
    """

    second: FloatArray
    shift: FloatArray | None


def single_samples(batches: Split | Source) -> Iterator[Feeds]:
    """Feeds of one sample each, padding cut off."""
    inputs = (batches.source if isinstance(batches, Split) else batches).inputs
    for feed in batches:
        if can_slice(feed, inputs):
            for row in range(rows_in(feed, inputs)):
                yield without_padding(slice_rows(feed, inputs, row, row + 1), inputs)
        else:
            yield feed


def input_moments(
    model: ir.Model,
    layers: Sequence[WeightedSum],
    quants: Mapping[str, TensorQuant],
    samples: Iterator[Feeds],
    *,
    threads: int = 0,
) -> dict[tuple[Any, ...], Moments]:
    """Window to its moments, over the float model's tensors: errors of layers before are not the layer's to make good.

    Args:
        layers: With each window once or more.
        quants: Tensor to its grid; others are read in float.
    """
    windows = {layer.window: layer for layer in layers}
    tensors = {layer.tensor for layer in layers}
    values = {str(value.name): value for node in model.graph for value in node.inputs if value is not None}
    mask = find_mask(input_specs(model))
    session = Session(model, tensors, threads=threads)
    second = {window: np.zeros((layer.inputs, layer.inputs), np.float32) for window, layer in windows.items()}
    shift = {window: np.zeros_like(second[window]) for window, layer in windows.items() if layer.tensor in quants}
    for feed in samples:
        outputs = {**feed, **session.run_sample(feed)}
        real = padding(feed, mask)
        for window, layer in windows.items():
            array = outputs[layer.tensor]
            if real is not None and mask is not None and layer.node.op_type != "Conv":
                shape = symbolic_shape(values[layer.tensor])
                axes = masked_axes(shape, array.shape, mask, (real.shape[0], real.shape[1]))
                if axes is not None and array.ndim - 1 not in axes.sequence:
                    array = drop_padding(array, real, axes).reshape(-1, layer.inputs)
            rows = layer.rows(array, ROWS).astype(np.float32)
            if layer.tensor not in quants:
                second[window] += rows.T @ rows
                continue
            quant = quants[layer.tensor]
            on_grid = dequantize(quantize(rows, quant), quant)
            second[window] += on_grid.T @ on_grid
            shift[window] += on_grid.T @ (rows - on_grid)
    return {window: Moments(second[window], shift.get(window)) for window in windows}


def every(samples: Iterator[Feeds], period: int, *, kept: bool, most: int | None = None) -> Iterator[Feeds]:
    """The last of each `period` samples, at most so many, or where not `kept` the others."""
    return islice((feed for index, feed in enumerate(samples) if (index % period == period - 1) == kept), most)
