"""One benchmark: what is measured on which inputs, and which graph the estimate is made from."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
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
from qcompiler.errors import ModelError, UsageError
from qcompiler.evaluation.shared_inputs import feeds_for
from qcompiler.manifest import FILE_NAME
from qcompiler.reading import as_model
from qcompiler.session import Arrays, Feeds
from qcompiler.state_codes import decode_states, states_in_codes, with_float_states

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
    graphs = {path: as_model(path, any_domain=True) for path in (*files, *([graph] if graph else []))}
    source, feeds = _feeds(model, graphs[files[0]], options)
    threads = options.threads or 1
    giver = {"golden": "golden/0.inputs.npz"}.get(source, "the other model")
    fitted = {path: feeds_for(item, feeds, str(path), giver) for path, item in graphs.items()}
    timings = measure(files, [fitted[path] for path in files], threads=threads, seconds=seconds)
    shapes = {name: array.shape for name, array in feeds.items()}
    estimates: tuple[tuple[Estimate, Estimate], ...] = ()
    if graph is not None:
        estimates, words = _estimates(graphs[graph], fitted[graph], boards)
        notes = (*notes, *words)
    notes = (*notes, *_about_states(graphs, files))
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
    """Inputs for the measured graph of `model`, with floats for the states that it takes as codes."""
    from qcompiler.calibration.data import input_specs, open_source
    from qcompiler.calibration.synthetic import random_feeds

    golden = model / "golden" / "0.inputs.npz"
    codes = states_in_codes(graph)
    graph = with_float_states(graph, codes) if codes else graph
    if options.calib is not None:
        batches = open_source(options.calib, input_specs(graph), preprocess=options.preprocess, max_samples=1)
        return "calib", dict(next(iter(batches)))
    shapes = {name: profile[1] for name, profile in options.shapes.items()}
    if golden.exists() and not shapes:
        return "golden", decode_states(_golden(golden), codes)
    return "synthetic", dict(random_feeds(graph, batch=1, seed=options.seed, shapes=shapes or None)[0])


def _golden(path: Path) -> Arrays:
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        hint = "compile again, or give --calib"
        raise ModelError("the golden inputs are damaged", where=str(path), hint=hint) from error


def _about_states(graphs: Mapping[Path, ir.Model], files: Sequence[Path]) -> tuple[str, ...]:
    """A note where files differ in how many states they take as codes."""
    counts = {path: len(states_in_codes(graphs[path])) for path in files}
    if len(set(counts.values())) == 1:
        return ()
    return ("states as int8: " + ", ".join(f"{count or 'none'} in {path.name}" for path, count in counts.items()),)


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
