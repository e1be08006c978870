"""One benchmark: what is measured on which inputs, and which graph the estimate is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qcompiler.bench.boards import Board
from qcompiler.bench.measure import Timing, measure
from qcompiler.bench.node_cost import INTEGER_OPS
from qcompiler.bench.node_shapes import profile_nodes
from qcompiler.bench.regions import fused_regions
from qcompiler.bench.roofline import ASSUMPTIONS, SUPPOSED, Estimate, estimate
from qcompiler.bundle import is_bundle
from qcompiler.errors import UsageError
from qcompiler.manifest import FILE_NAME
from qcompiler.reading import as_model
from qcompiler.session import Arrays, Feeds

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.options import CompileOptions


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What `bench` found.

    Attributes:
        inputs: Where the inputs come from ("golden", "synthetic", "calib") and input name to shape.
        timings: The model's, and the float model's where one was given.
        estimated: The file whose graph the estimates are of; empty where there is none.
        estimates: Pairs of FP16 and INT8, one a board.
    """

    source: str
    shapes: dict[str, tuple[int, ...]]
    threads: int
    timings: tuple[Timing, ...]
    estimated: str
    estimates: tuple[tuple[Estimate, Estimate], ...]
    notes: tuple[str, ...]


def run_bench(
    model: Path, against: Path | None, options: CompileOptions, boards: Sequence[Board], *, seconds: float
) -> BenchResult:
    """Measure and estimate.

    Raises:
        QcompileError: A file is missing, damaged or refused; inputs that the models don't share.
    """
    files, graph, notes = _files(model, against)
    first = as_model(files[0], any_domain=True)
    source, feeds = _feeds(model, first, options)
    threads = options.threads or 1
    for path in files[1:]:
        _check_inputs(path, as_model(path, any_domain=True), feeds)
    timings = measure(files, feeds, threads=threads, seconds=seconds)
    shapes = {name: array.shape for name, array in feeds.items()}
    estimates: tuple[tuple[Estimate, Estimate], ...] = ()
    if graph is not None:
        reader = first if graph == files[0] else as_model(graph, any_domain=True)
        estimates, words = _estimates(reader, feeds, boards)
        notes = (*notes, *words)
    return BenchResult(source, shapes, threads, tuple(timings), str(graph or ""), estimates, notes)


def _files(model: Path, against: Path | None) -> tuple[list[Path], Path | None, tuple[str, ...]]:
    """Files to measure, the graph to estimate from, and notes."""
    for path in (model, *([against] if against else [])):
        if not path.exists():
            raise UsageError("no such file or folder", where=str(path))
    others = [against] if against else []
    if not model.is_dir():
        return [model, *others], model, ()
    if not is_bundle(model):
        raise UsageError(f"is not a bundle: it has no {FILE_NAME}", where=str(model))
    host = model / "host.onnx"
    if host.is_file():
        return [host, *others], model / "model.onnx", ("measured is host.onnx; model.onnx is for TensorRT",)
    return [model / "model.onnx", *others], against or model / "model.onnx", ()


def _feeds(model: Path, graph: ir.Model, options: CompileOptions) -> tuple[str, Arrays]:
    from qcompiler.calibration.data import input_specs, open_source
    from qcompiler.calibration.synthetic import random_feeds

    golden = model / "golden" / "0.inputs.npz"
    if options.calib is not None:
        batches = open_source(options.calib, input_specs(graph), preprocess=options.preprocess, max_samples=1)
        return "calib", dict(next(iter(batches)))
    shapes = {name: profile[1] for name, profile in options.shapes.items()}
    if golden.is_file() and not shapes:
        with np.load(golden) as archive:
            return "golden", {name: archive[name] for name in archive.files}
    return "synthetic", dict(random_feeds(graph, batch=1, seed=options.seed, shapes=shapes or None)[0])


def _check_inputs(path: Path, graph: ir.Model, feeds: Feeds) -> None:
    wanted = [value.name or "" for value in graph.graph.inputs if value.const_value is None]
    missing = [name for name in wanted if name not in feeds]
    if missing:
        raise UsageError(f"has the input {missing[0]!r}, which the other model lacks", where=str(path),
                         hint=f"the inputs are {', '.join(feeds)}")  # fmt: skip


def _estimates(
    graph: ir.Model, feeds: Feeds, boards: Sequence[Board]
) -> tuple[tuple[tuple[Estimate, Estimate], ...], tuple[str, ...]]:
    operators = {node.op_type for node in graph.graph.all_nodes()}
    if operators & INTEGER_OPS:
        return (), ("no estimate: this graph is for onnxruntime; give --against FLOAT.onnx or a bundle for orin",)
    runs = profile_nodes(graph, feeds)
    half, integer = (fused_regions(graph, runs, precision) for precision in ("fp16", "int8"))
    notes = () if "QuantizeLinear" in operators else (SUPPOSED,)
    return tuple((estimate(half, board), estimate(integer, board)) for board in boards), (*notes, *ASSUMPTIONS)
