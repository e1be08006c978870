"""A torch module to an ONNX file: exported, named, compared with torch, written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnx_ir as ir
from torch import nn

from qcompiler.errors import GateError, ModelError, UnsupportedError, UsageError
from qcompiler.torch_export.adapter import Adapter, input_names
from qcompiler.torch_export.dynamic_axes import dynamic_axes, named_shape, sizes_of
from qcompiler.torch_export.entry import OLDEST_OPSET, OPSET, ExportOptions
from qcompiler.torch_export.examples import example_inputs as make_inputs
from qcompiler.torch_export.exporters import EXPORTERS, ExportFailure, run_exporter
from qcompiler.torch_export.hf_mamba import loops_over_time, scanning
from qcompiler.torch_export.job import Job
from qcompiler.torch_export.modes import attention, evaluating, other_attention
from qcompiler.torch_export.naming import name_graph
from qcompiler.torch_export.output_file import check_free, write_model
from qcompiler.torch_export.parity import compare_with_torch
from qcompiler.torch_export.reference import output_shapes, run_trials
from qcompiler.torch_export.result import ExportResult, ParityRow, TensorInfo
from qcompiler.torch_export.trials import resized, tracing_sizes, trial_sizes


def run_export(module: Any, example_inputs: Any, path: Path, options: ExportOptions) -> ExportResult:
    """As `qcompiler.export`, which checks that torch is there."""
    start = time.perf_counter()
    _check_arguments(module, path, options)
    check_free(path, force=options.force)
    with evaluating(module):
        job = _prepare(module, example_inputs, options)
        made, model, parity = _first_that_works(job, options)
        write_model(model, path, force=options.force)
    return ExportResult(
        path, made, tuple(job.failures), options.opset, _infos(model.graph.inputs), _infos(model.graph.outputs),
        parity, options.tolerance, tuple(job.notes), round(time.perf_counter() - start, 3),
    )  # fmt: skip


def _check_arguments(module: Any, path: Path, options: ExportOptions) -> None:
    import onnx

    if not isinstance(module, nn.Module):
        what = module.__name__ if isinstance(module, type) else type(module).__name__
        hint = "call it to make an instance" if isinstance(module, type) else "give an instance of torch.nn.Module"
        raise UsageError(f"{what} is not a torch module", hint=hint)
    if path.suffix != ".onnx":
        raise UsageError("the output is a file", where=str(path), hint=f"write {path.name}.onnx")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= options.opset <= newest:
        hint = f"{OLDEST_OPSET} to {newest}; {OPSET} suits torch"
        raise UsageError(f"opset {options.opset} is out of range", hint=hint)
    if options.exporter not in ("auto", *EXPORTERS):
        raise UsageError(f"unknown exporter {options.exporter!r}", hint=f"one of auto, {', '.join(EXPORTERS)}")
    if not options.tolerance > 0:
        raise UsageError(f"tolerance {options.tolerance} is not above 0")
    place = next((name for name, item in module.named_parameters() if item.device.type != "cpu"), None)
    if place is not None:
        raise UsageError(f"parameter {place!r} is not on the CPU", where=type(module).__name__, hint="module.cpu()")


def _prepare(module: nn.Module, example: Any, options: ExportOptions) -> Job:
    names, check, seed = options.input_names, options.check, options.seed
    inputs = make_inputs(module, example, seed)
    tensors = input_names(module, inputs)
    if names is not None:
        if len(names) != len(tensors) or len(set(names)) != len(names):
            raise UsageError(f"{len(names)} input names for {len(tensors)} inputs", hint="one each, no doubles")
        tensors = [(str(name), tensor) for name, (_, tensor) in zip(names, tensors, strict=True)]
    axes = dynamic_axes(options.dynamic, tensors)
    sizes = sizes_of(axes, tensors)
    adapter = Adapter(module, inputs)
    more = [] if isinstance(check, bool) else list(check)
    unknown = next((name for row in more for name in row if name not in sizes), None)
    if unknown is not None:
        raise UsageError(f"no size is called {unknown!r}", where="check", hint=f"known: {', '.join(sizes)}")
    trials = run_trials(adapter, tensors, axes, trial_sizes(sizes, more), seed)
    traced = resized(tensors, axes, tracing_sizes(sizes), seed)
    job = Job(adapter, tensors, traced, axes, trials, [])
    job.rename_outputs(options.output_names)
    if loops_over_time(module):
        job.notes.append("the loop over time of transformers' Mamba is replaced by a Scan")
    return job


def _first_that_works(job: Job, options: ExportOptions) -> tuple[str, ir.Model, tuple[ParityRow, ...]]:
    """Exporter, graph and comparison of the first attempt without fault; faults of the others go to the job."""
    exporters = list(EXPORTERS) if options.exporter == "auto" else [options.exporter]
    differs: str | None = None
    for kind in dict.fromkeys((None, other_attention(job.adapter.module))):
        for name in exporters:
            label = name if kind is None else f"{name} with {kind} attention"
            try:
                model = _export_with(job, name, kind, options.opset)
            except ExportFailure as failure:
                job.failures.append(f"{label} failed: {failure}")
                continue
            parity, wrong = ((), "") if options.check is False else _compare(job, model, options.tolerance)
            if not wrong:
                if kind is not None:
                    job.notes.append(f"exported with {kind} attention")
                return name, model, parity
            differs = f"{label} exports, but {wrong}"
            job.failures.append(differs)
    where = type(job.adapter.module).__name__
    reasons = "; ".join(dict.fromkeys(job.failures))
    if differs is not None:
        raise GateError(f"{reasons}; tolerance {options.tolerance:g}", where=where, hint="nothing is written")
    raise UnsupportedError(reasons, where=where, hint="fewer dynamic axes, or a forward without the operator named")


def _export_with(job: Job, exporter: str, kind: str | None, opset: int) -> ir.Model:
    module = job.adapter.module
    with ExitStack() as stack:
        stack.enter_context(attention(module, kind))
        if exporter == "dynamo":
            stack.enter_context(scanning(module))
        model = run_exporter(exporter, job.adapter, job.traced, job.axes, opset)
    outputs = output_shapes(job.trials)
    found = (len(model.graph.inputs), len(model.graph.outputs))
    if found != (len(job.tensors), len(outputs)):
        raise ExportFailure(
            f"the graph has {found[0]} inputs and {found[1]} outputs, the module {len(job.tensors)} and {len(outputs)}"
        )
    name_graph(model, module, {name: named_shape(item, job.axes.get(name, {})) for name, item in job.tensors}, outputs)
    return model


def _compare(job: Job, model: ir.Model, tolerance: float) -> tuple[tuple[ParityRow, ...], str]:
    try:
        return compare_with_torch(model, job.trials, tolerance)
    except ModelError as error:
        return (), error.message


def _infos(values: Sequence[ir.Value]) -> tuple[TensorInfo, ...]:
    found = []
    for value in values:
        sizes = value.shape if value.shape is not None else ()
        shape = tuple(size if isinstance(size, int) else size.value or "?" for size in sizes)
        dtype = str(value.dtype.numpy()) if value.dtype is not None else "?"
        found.append(TensorInfo(value.name or "", dtype, shape))
    return tuple(found)
