"""How well the roofline of `qcompile bench` orders layers by time: rank correlation with onnxruntime on this processor.

python -m benchmarks.roofline [--models a,b] [--int8] [--runs 20]

No Jetson is at hand, so the model behind the estimates is checked where times can be measured: the same operations and
bytes, with this processor's peak rates (measured first, one thread) in place of a board's. Two comparisons:

- kernels: onnxruntime's own fused graph; each node's roofline against its measured time;
- regions: the fused regions of the estimate on the graph as exported; each region's roofline against the sum of its
  nodes' times, where nothing is fused, so elementwise nodes behind a product weigh more than the roofline says.

Spearman's rank correlation over all of them, and over those that take at least 0.1% of the measured time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import models
from benchmarks import machine
from models.zoo import MissingAsset
from qcompiler.bench.boards import Board
from qcompiler.bench.measure import pinned
from qcompiler.bench.node_cost import INTEGER_OPS, MATRIX_OPS, is_free, operations
from qcompiler.bench.node_shapes import NodeRun, profile_nodes
from qcompiler.bench.regions import Region, fused_regions
from qcompiler.bench.roofline import estimate
from qcompiler.graph import add_initializer, make_node
from qcompiler.reading import as_model
from qcompiler.session import Feeds, Session

_WORDS = {"float32": "float", "uint8": "uint8"}

Pairs = list[tuple[float, float]]
"""Estimated and measured seconds of each kernel or region."""


def spearman(pairs: Pairs) -> float:
    """Rank correlation; equal values share their mean rank."""
    ranks = []
    for values in zip(*pairs, strict=True):
        _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks.append((ends - (counts - 1) / 2)[place])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def processor() -> Board:
    """This processor at one thread: a product with a constant matrix as onnxruntime packs it, and a large copy."""
    rows, depth, columns = 256, 768, 1536
    random = np.random.default_rng(0)
    real = random.standard_normal((rows, depth), np.float32)
    codes = random.integers(0, 255, (rows, depth)).astype(np.uint8)
    weights = random.standard_normal((depth, columns), np.float32)
    rates = []
    for operator, left, right, kind in (
        ("MatMul", real, weights, ir.DataType.FLOAT),
        ("MatMulInteger", codes, (weights * 20).clip(-63, 63).astype(np.int8), ir.DataType.INT32),
    ):
        text = f'<ir_version: 8, opset_import: ["" : 17]> m ({_WORDS[left.dtype.name]}[N, K] a) => (int64[2] s)'
        model = ir.from_onnx_text(f"{text} {{ s = Shape(a) }}")
        weight = add_initializer(model.graph, right, "b")
        node = make_node(operator, [model.graph.inputs[0], weight], output="y", dtype=kind, shape=None)
        model.graph.append(node)
        model.graph.outputs[:] = node.outputs
        session = Session(model, threads=1)
        best = min(_timed(lambda run=session.run, feeds={"a": left}: run(feeds)) for _ in range(40))
        rates.append(2.0 * rows * depth * columns / best)
    source, target = np.ones(1 << 26, np.uint8), np.empty(1 << 26, np.uint8)
    best = min(_timed(lambda: np.copyto(target, source)) for _ in range(9))
    return Board("host", "this processor, one thread", rates[1], rates[0], rates[0] / 2, 2 * source.nbytes / best)


def _timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fused(path: Path, folder: Path) -> Path:
    """The graph as onnxruntime fuses it, without layouts of this processor."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "fused.onnx")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "fused.data")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return folder / "fused.onnx"


def kernel_pairs(model: ir.Model, feeds: Feeds, board: Board, runs: int) -> Pairs:
    """Each node alone, with the bytes of the element types that it has."""
    found: Pairs = []
    nodes = list(model.graph.all_nodes())
    for place, run in profile_nodes(model, feeds, runs=runs, warm_up=3).items():
        node = nodes[place]
        if not is_free(node):
            found.append((estimate([_alone(node, run)], board).seconds, run.seconds))
    return found


def _alone(node: ir.Node, run: NodeRun) -> Region:
    count = operations(node, run) * run.calls
    matrix = node.op_type in MATRIX_OPS
    sizes = {"float": 4, "double": 8, "int64": 8, "int32": 4, "float16": 2}
    taken = [*run.inputs, *run.outputs]
    if node.op_type in ("Gather", "Slice"):
        taken = [*run.inputs[1:], *run.outputs, *run.outputs]
    moved = sum(sizes.get(word, 1) * float(np.prod(shape)) for word, shape in taken) * run.calls
    return Region(
        node.name or "", node.op_type, [], 0, run.calls, matrix=count if matrix else 0.0,
        vector=0.0 if matrix else count, bytes=moved, integer=node.op_type in INTEGER_OPS,
    )  # fmt: skip


def region_pairs(model: ir.Model, feeds: Feeds, board: Board, runs: int) -> Pairs:
    """Regions of the estimate, their floats taken as 4 bytes."""
    times = profile_nodes(model, feeds, runs=runs, warm_up=3)
    regions = fused_regions(model, times, "fp16")
    half = Board(board.name, board.title, board.int8, board.fp16, board.vector, board.bandwidth / 2)
    bounds = estimate(regions, half).bounds
    return [(item.seconds, sum(times[place].seconds for place in item.region.nodes)) for item in bounds]


def line(label: str, pairs: Pairs) -> str:
    """A row of the table."""
    total = sum(measured for _, measured in pairs)
    large = [pair for pair in pairs if pair[1] >= total / 1000]
    count = max(1, len(pairs) // 10)
    top = [set(np.argsort([-pair[which] for pair in pairs])[:count].tolist()) for which in (0, 1)]
    ratio = total / sum(estimated for estimated, _ in pairs)
    return (
        f"| {label} | {len(pairs)} | {spearman(pairs):.3f} | {len(large)} | {spearman(large):.3f} "
        f"| {len(top[0] & top[1]) / count:.0%} | {ratio:.1f} |"
    )


def main(arguments: Sequence[str]) -> int:
    """Entry point: a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(models.TABLE))
    parser.add_argument("--int8", action="store_true", help="also the kernels of each model compiled for ort-cpu")
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args(arguments)
    facts = machine.describe()
    with pinned(1):
        board = processor()
        print(f"{facts['processor']}, {facts['integer instructions']}, onnxruntime {facts['onnxruntime']}")
        print(f"one thread: {board.fp16 / 1e9:.0f} GFLOP/s float32, {board.int8 / 1e9:.0f} Gop/s int8, "
              f"{board.bandwidth / 1e9:.1f} GB/s\n")  # fmt: skip
        print("| model | all | rank correlation | over 0.1% of time | rank correlation | same slowest tenth "
              "| measured over bound |\n| --- | --- | --- | --- | --- | --- | --- |")  # fmt: skip
        for name in args.models.split(","):
            try:
                model = models.load(name)
                path, feeds = model.path(), model.timing()
            except MissingAsset:
                continue
            with tempfile.TemporaryDirectory() as folder:
                whole = as_model(path, any_domain=True)
                print(line(f"{name}: regions", region_pairs(whole, feeds, board, args.runs)))
                kernels = ir.load(fused(path, Path(folder)))  # some of its operators stand in no opset
                print(line(f"{name}: kernels", kernel_pairs(kernels, feeds, board, args.runs)), flush=True)
                if args.int8:
                    print(line(f"{name}: int8 kernels", _int8_pairs(model, board, args.runs, Path(folder))), flush=True)
    return 0


def _int8_pairs(model: Any, board: Board, runs: int, folder: Path) -> Pairs:
    import qcompiler

    result = qcompiler.compile(
        model.path(), target="ort-cpu", calibration=model.calibration()[:4], method="minmax", equalize="none",
        verify=False,
    )
    result.save(folder / "int8")
    kernels = ir.load(fused(folder / "int8" / "model.onnx", folder))
    return kernel_pairs(kernels, model.timing(), board, runs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
