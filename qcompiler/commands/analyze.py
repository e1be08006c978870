"""`qcompile analyze MODEL --calib A [--calib B ...]`: outliers, and whether the calibration set matters."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from qcompiler.commands.arguments import Parser, add_shared
from qcompiler.errors import ExitCode, UsageError

EPILOG = """\
--calib takes what a compile takes, or NAME=that; the first set stands for the data that the model will see"""


def parser() -> Parser:
    """Arguments of `analyze`."""
    made = Parser("qcompile analyze", "Statistics of activations, and how much the calibration set matters.", EPILOG)
    made.add_argument("model", metavar="MODEL", help="a float .onnx file")
    made.add_argument("--calib", metavar="D", action="append", help="a calibration set; repeat it to compare sets")
    made.add_argument("--validate", metavar="D", help="samples to judge on; default: held back from the first set")
    made.add_argument("-o", "--output", metavar="DIR", help="write analysis.json and plots (PNG and SVG) there")
    made.add_argument("--no-plots", dest="plots", action="store_false", help="only analysis.json; needs no matplotlib")
    made.add_argument("--force", action="store_true", help="replace an existing output")
    made.add_argument("--samples", metavar="N,...", help="numbers of samples to compare (1,8,32,128 as far as they go)")
    made.add_argument("--seeds", metavar="K", help="random draws of samples for each number (5)")
    made.add_argument("--methods", metavar="M,...", help="rules for ranges (minmax,percentile,mse); also entropy")
    made.add_argument("--tensors", metavar="RE", help="also tensors whose name matches")
    made.add_argument("--target", metavar="T", help="whose placement decides what is looked at (ort-cpu)")
    made.add_argument("--exclude", metavar="RE", action="append", help="nodes that stay float; repeatable")
    made.add_argument("--percentile", metavar="P", help="for the rule percentile (99.99)")
    made.add_argument("--goal-sqnr", metavar="DB", help="SQNR of the outputs to aim at (25)")
    made.add_argument("--preprocess", metavar="HOW", help="for image folders: imagenet, or mean,std")
    made.add_argument("--max-samples", metavar="N", help="read at most N samples of each set")
    made.add_argument("--threads", metavar="N", help="onnxruntime threads; 0 lets it choose")
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Analyze; returns OK.

    Raises:
        QcompileError: As `analyze_model` and `write_analysis`; or plots are asked for without matplotlib.
    """
    source = Path(args.model)
    if not source.is_file():
        raise UsageError("no such file" if not source.exists() else "is not a file", where=str(source))
    output = Path(settings["output"]) if settings.get("output") else None
    plots = output is not None and getattr(args, "plots", True)
    if plots and find_spec("matplotlib") is None:
        raise UsageError("plots need matplotlib", where="--output",
                         hint="pip install 'qcompile-onnx[plots]', or --no-plots for analysis.json alone")  # fmt: skip
    options = _options(settings, args)
    if output is not None:
        from qcompiler.analysis.write import check_folder

        check_folder(output, force=bool(settings.get("force")))
    from qcompiler.analysis.analyze import analyze_model
    from qcompiler.progress import for_stream

    progress = for_stream(quiet=bool(settings.get("quiet")))
    try:
        found = analyze_model(source, options, progress=progress)
    finally:
        progress.done()
    files: list[str] = []
    if output is not None:
        from qcompiler.analysis.write import write_analysis

        files = write_analysis(found, output, plots=plots, force=bool(settings.get("force")))
    _show(found, settings)
    if files and not settings.get("json") and not settings.get("quiet"):
        print(f"\n{output}/: {', '.join(files)}")
    return ExitCode.OK


def _show(found: Any, settings: Mapping[str, Any]) -> None:
    from qcompiler.commands.logs import log_diagnostics

    if settings.get("json"):
        from qcompiler.analysis.document import analysis_document
        from qcompiler.report import encode

        log_diagnostics(found.diagnostics, settings)
        if any(source["source"] == "synthetic" for source in found.sources.values()) and not settings.get("quiet"):
            print("qcompile: warning: synthetic inputs: nothing here holds for real data", file=sys.stderr)
        sys.stdout.write(encode(analysis_document(found)).decode())
        return
    log_diagnostics(found.diagnostics, {**settings, "quiet": True})  # the screen shows them itself
    if not settings.get("quiet"):
        from qcompiler.analysis.show import show_analysis

        show_analysis(found, verbose=int(settings.get("verbose", 0)))


def _options(settings: Mapping[str, Any], args: argparse.Namespace) -> Any:
    from qcompiler.analysis.options import ALL_METHODS, METHODS, AnalysisOptions
    from qcompiler.config import to_options

    methods = tuple(getattr(args, "methods", ",".join(METHODS)).split(","))
    for method in methods:
        if method not in ALL_METHODS:
            raise UsageError(f"unknown rule {method!r}", where="--methods", hint=f"one of {', '.join(ALL_METHODS)}")
    sizes = _whole_numbers(args.samples, "--samples") if hasattr(args, "samples") else None
    seeds = _whole_numbers(getattr(args, "seeds", "5"), "--seeds")
    if len(seeds) != 1:
        raise UsageError("expected one number", where="--seeds")
    given = settings.get("calib") or []
    base = to_options({key: value for key, value in settings.items() if key != "calib"})
    return AnalysisOptions(
        named_sets([given] if isinstance(given, (str, Path)) else given), base, sizes, seeds[0],
        cast(Any, tuple(dict.fromkeys(methods))), getattr(args, "tensors", ""),
    )  # fmt: skip


def _whole_numbers(text: str, where: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"expected whole numbers, got {text!r}", where=where, hint="write 1,8,32") from None
    if min(found) < 1:
        raise UsageError(f"{min(found)} is out of range", where=where, hint="it must be at least 1")
    return found


def named_sets(given: Sequence[str | Path]) -> dict[str, str]:
    """Name to data: NAME=DATA, else the last part of the path; what is met twice gets a number.

    Raises:
        UsageError: A name that is given twice.
    """
    found: dict[str, str] = {}
    for item in map(str, given):
        name, equals, data = item.partition("=")
        named = bool(equals and data) and not Path(item).exists()
        if named and name in found:
            raise UsageError(f"two sets are called {name!r}", where="--calib", hint="give each a name of its own")
        wish = name if named else Path(item.rstrip("/")).stem or item
        label, count = wish, 1
        while label in found:
            count += 1
            label = f"{wish}-{count}"
        found[label] = data if named else item
    return found
