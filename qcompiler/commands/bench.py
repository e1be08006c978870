"""`qcompile bench MODEL_OR_BUNDLE [--against FLOAT.onnx]`: latency here, and a roofline for Jetson Orin."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompiler.commands.arguments import Parser, add_data, add_shared, check_data
from qcompiler.errors import ExitCode, UsageError

OWN = ("against", "board", "seconds")


def parser() -> Parser:
    """Arguments of `bench`."""
    made = Parser(
        "qcompile bench",
        "Measure latency, throughput and memory on onnxruntime here, and estimate the least time on Jetson Orin from\n"
        "the bytes and operations of each fused region. No Jetson is measured.",
    )
    made.add_argument("model", metavar="MODEL_OR_BUNDLE", help="an .onnx file, or a folder that qcompile wrote")
    made.add_argument("--against", metavar="FLOAT.onnx", help="a second model, measured in turns with the first")
    made.add_argument("--seconds", metavar="S", default="10", help="how long to measure (10); at least 10 rounds")
    made.add_argument("--board", metavar="B", help="agx, nx, nano or nano-super; default all four")
    made.add_argument("--shape", metavar="IN:1x3x224x224", action="append", dest="shapes",
                      help="shape of an input, for synthetic inputs; repeatable")  # fmt: skip
    add_data(made, "one sample is taken; without it the golden ones of a bundle, else synthetic inputs", several=False)
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Measure and print."""
    from qcompiler.bench.boards import BOARDS
    from qcompiler.bench.run import run_bench
    from qcompiler.config import to_options

    name = getattr(args, "board", None)
    boards = tuple(board for board in BOARDS if name in (None, board.name))
    if not boards:
        known = ", ".join(board.name for board in BOARDS)
        raise UsageError(f"unknown board {name!r}", where="--board", hint=f"one of {known}")
    check_data(args, settings)
    if hasattr(args, "shapes") and settings.get("calib") is not None:
        raise UsageError("is for synthetic inputs, and --calib gives real ones", where="--shape", hint="leave one out")
    against = getattr(args, "against", None)
    options = to_options(settings)
    found = run_bench(Path(args.model), None if against is None else Path(against), options, boards,
                      seconds=_seconds(args.seconds))  # fmt: skip
    if settings.get("json"):
        from qcompiler.bench.document import bench_document
        from qcompiler.report import encode

        sys.stdout.write(encode(bench_document(found)).decode())
    elif not settings.get("quiet"):
        from qcompiler.bench.show import show_bench

        show_bench(found, verbose=int(settings.get("verbose", 0)))
    return ExitCode.OK


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise UsageError(f"expected seconds between 0 and 3600, got {text!r}", where="--seconds")
    return seconds
