"""Running a model over calibration batches and handing its inner tensors to observers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.feeds import rows_in
from qcompiler.calibration.inputs import InputSpec, input_specs
from qcompiler.calibration.masks import Mask, MaskedAxes, drop_padding, find_mask, masked_axes, padding, symbolic_shape
from qcompiler.calibration.observers import ChannelRanges, Histogram
from qcompiler.calibration.table import CalibrationTable
from qcompiler.errors import CalibrationError
from qcompiler.graph import is_float
from qcompiler.session import Feeds, Session

MEMORY_BOUND = 1 << 30
"""Bytes of inner tensors that one forward pass may return; two passes' worth is alive at a time."""


def calibrate(
    model: ir.Model,
    tensors: Sequence[str],
    batches: Iterable[Feeds],
    *,
    channel_axes: Mapping[str, int] = MappingProxyType({}),
    mask_input: str | None = "auto",
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    fingerprint: str = "",
    memory_bound: int = MEMORY_BOUND,
) -> CalibrationTable:
    """Histograms of `tensors` over one pass of `batches`.

    The histograms of one batch are made on a thread while the next batch runs; each batch is forgotten afterwards, so
    memory does not grow with their number. Where the tensors of a batch would exceed `memory_bound`, several sessions
    share them, and each batch runs once in each.

    Args:
        tensors: Graph inputs and values of the main graph; others end in the table's `unobserved`.
        channel_axes: Tensor to the axis of its channels, where ranges by channel are wanted; it may count from the end.
        mask_input: Name of the [batch, sequence] input that marks real positions; "auto" looks for it; None counts
            padding like the rest.
        progress: Called with the number of samples done after each batch.
        fingerprint: Of the model, for the table.

    Raises:
        CalibrationError: An activation that is NaN or infinite, a batch that the model cannot run, no batch at all.
    """
    inputs = input_specs(model)
    fed = {spec.name for spec in inputs}
    values, unobserved = _observable(model, [*tensors, *channel_axes])
    mask = _mask_spec(inputs, mask_input)
    found = dict.fromkeys((name for name in tensors if name in values), Histogram())
    ranges = {name: ChannelRanges(axis) for name, axis in channel_axes.items() if name in values}
    inner = [name for name in values if name not in fed]
    sessions: list[tuple[Session, frozenset[str]]] = []
    notes: tuple[str, ...] = ()
    samples = planned_for = 0

    def observe(arrays: Mapping[str, np.ndarray[Any, Any]], real: Mask | None) -> None:
        for name, array in arrays.items():
            if real is not None and mask is not None:
                axes = _axes(values[name], array, mask, real)
                counted = drop_padding(array, real, axes) if axes is not None else array
            else:
                counted = array
            try:
                if name in found:
                    found[name] = found[name].observe(counted)
                if name in ranges:  # padding too: what is left of a tensor without it is a vector
                    ranges[name] = ranges[name].observe(array)
            except CalibrationError as error:
                hint = "keep it out of quantization with --exclude, or remove the sample"
                raise CalibrationError(error.message, where=f"tensor {name}", hint=hint) from error

    with ThreadPoolExecutor(1, "observe") as pool:
        pending: Future[None] | None = None
        for batch in batches:
            size = sum(array.size for array in batch.values())
            chunks = _chunks(values, inner, batch, inputs, memory_bound) if size > planned_for else []
            planned_for = max(planned_for, size)
            if len(chunks) > len(sessions):  # the first batch, or one so much larger that its tensors need more rounds
                sessions = [(Session(model, chunk, threads=threads), frozenset(chunk)) for chunk in chunks]
                if len(chunks) > 1:
                    notes = (
                        f"the tensors of a batch exceed {memory_bound >> 20} MiB: each batch ran {len(chunks)} times",
                    )
            real = padding(batch, mask)
            for index, (session, wanted) in enumerate(sessions):
                outputs = session.run_sample(batch)
                arrays = {name: outputs[name] for name in wanted}
                if index == 0:
                    arrays |= {name: batch[name] for name in values if name in fed}
                del outputs
                if pending is not None:
                    pending.result()
                pending = pool.submit(observe, arrays, real)
                del arrays
            samples += rows_in(batch, inputs)
            if progress is not None:
                progress(samples)
        if pending is not None:
            pending.result()
    if not samples:
        raise CalibrationError("no samples to calibrate on", hint="give at least one")
    return CalibrationTable(
        fingerprint, samples, {name: found[name] for name in sorted(found)}, unobserved, notes, ranges
    )


def _observable(model: ir.Model, tensors: Sequence[str]) -> tuple[dict[str, ir.Value], dict[str, str]]:
    main = {value.name: value for value in model.graph.inputs}
    main.update({value.name: value for node in model.graph for value in node.outputs})
    wanted = dict.fromkeys(tensors)
    inside = (
        {value.name for node in model.graph.all_nodes() for value in node.outputs}
        if wanted.keys() - main.keys()
        else set()
    )
    values, refused = {}, {}
    for name in wanted:
        value = main.get(name)
        if name in model.graph.initializers:
            refused[name] = "it is a constant"
        elif value is not None and is_float(value):
            values[name] = value
        elif value is not None:
            refused[name] = "it holds no floats"
        elif name in inside:
            refused[name] = "it lies in the body of a Scan, Loop or If, which cannot return it"
        else:
            refused[name] = "the model has no such tensor"
    return values, refused


def _mask_spec(inputs: Sequence[InputSpec], wish: str | None) -> InputSpec | None:
    if wish is None:
        return None
    if wish == "auto":
        return find_mask(inputs)
    chosen = next((spec for spec in inputs if spec.name == wish), None)
    if chosen is None:
        raise CalibrationError(
            f"the model has no input {wish!r} to take as mask", hint=", ".join(spec.name for spec in inputs)
        )
    return chosen


def _axes(value: ir.Value, array: np.ndarray[Any, Any], mask: InputSpec, real: Mask) -> MaskedAxes | None:
    return masked_axes(symbolic_shape(value), array.shape, mask, (real.shape[0], real.shape[1]))


def _chunks(
    values: Mapping[str, ir.Value], names: Sequence[str], batch: Feeds, inputs: Sequence[InputSpec], bound: int
) -> list[list[str]]:
    """The names in runs whose tensors stay below the bound; one run, perhaps empty, where all do."""
    sizes: dict[str, int] = {}
    for spec in inputs:
        for dim, size in zip(spec.shape, batch[spec.name].shape, strict=False):
            if isinstance(dim, str):
                sizes[dim] = max(size, sizes.get(dim, 0))
    known = {name: _bytes(values[name], sizes) for name in names}
    largest = max((size for size in known.values() if size is not None), default=0)
    chunks: list[list[str]] = [[]]
    total = 0
    for name in names:
        size = known[name]
        size = largest if size is None else size
        if chunks[-1] and total + size > bound:
            chunks.append([])
            total = 0
        chunks[-1].append(name)
        total += size
    return chunks


def _bytes(value: ir.Value, sizes: Mapping[str, int]) -> int | None:
    """Size of a value with symbolic sizes filled in; None where one stays unknown."""
    shape = symbolic_shape(value)
    if shape is None:
        return None
    total = 4
    for dim in shape:
        size = dim if isinstance(dim, int) else sizes.get(dim or "")
        if size is None:
            return None
        total *= size
    return total


split_by_bytes = _chunks  # for the analysis, which runs the same sessions
