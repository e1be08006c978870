"""`qcompile MODEL --target T [--calib D] [-o DIR]`: compile a model and write the bundle."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.commands.arguments import Parser, add_data, add_shared
from qcompiler.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from qcompiler.options import CompileOptions
    from qcompiler.result import CompileResult

EPILOG = """\
settings: flag > QCOMPILE_<FLAG> variable > --config file > default of the target
exit status: 0 ok, 1 quality gate missed, 2 usage, 3 model, 4 calibration data, 5 internal error, 130 interrupted"""


def parser() -> Parser:
    """Arguments of `compile`."""
    made = Parser("qcompile", "Compile an ONNX model to an INT8 graph for onnxruntime or TensorRT on Jetson.", EPILOG)
    made.add_argument("model", metavar="MODEL", help="an .onnx file")
    made.add_argument(
        "--target", metavar="T", help="ort-cpu (default), ort-cpu-arm64, orin, orin-jp7; see `qcompile targets`"
    )
    made.add_argument("-o", "--output", metavar="DIR", help="folder to write; default <stem>.<target>")
    made.add_argument("--force", action="store_true", help="replace an existing output")
    made.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")
    made.add_argument("--config", metavar="FILE", help="a TOML file with these flags' names as keys")
    data = made.add_argument_group("calibration and verification")
    add_data(data)
    data.add_argument("--validate", metavar="D", help="samples to verify on; default: a held-back share of --calib")
    data.add_argument("--method", metavar="M",
                      help="clipping: auto (default, measured), minmax, percentile[:99.99], mse or entropy")
    data.add_argument("--percentile", metavar="P", help="for --method percentile")
    data.add_argument("--min-sqnr", metavar="DB", help="exit 1 where a float output has a lower signal to noise ratio")
    data.add_argument("--min-cosine", metavar="C", help="exit 1 where a float output has a lower mean cosine")
    data.add_argument("--strict", action="store_true", help="exit 1 where a float rewrite fails its certificate")
    data.add_argument(
        "--no-verify", dest="verify", action="store_false", help="skip the comparison with the float model"
    )
    plan = made.add_argument_group("what is quantized")
    plan.add_argument("--include", metavar="RE", action="append", help="only nodes whose name matches; repeatable")
    plan.add_argument("--exclude", metavar="RE", action="append", help="nodes that stay float; repeatable")
    plan.add_argument("--exclude-op", metavar="OP", action="append", help="operator types that stay float; repeatable")
    plan.add_argument("--equalize", metavar="HOW",
                      help="shift and scale channels: recipe (default; auto where norms have large channels and"
                      " outputs need it, bounded_fold for vision transformers below 8 bits, else none), none, auto"
                      " (measured), os_plus, smooth, outlier_tune, repq, bounded_fold")
    plan.add_argument("--bias-correction", metavar="HOW",
                      help="take out the mean error of each layer: none (default) or auto (where the outputs gain)")
    plan.add_argument("--rounding", metavar="HOW",
                      help="codes of weights: nearest (default), gptq (chosen on data), auto (where the outputs gain)")
    plan.add_argument("--rotate", metavar="HOW",
                      help="rotate before equalizing: recipe (default; gated for Mamba where the outputs gain, else"
                           " none), none, auto (measured), all, or residual,heads,down,gated,scores")
    plan.add_argument("--split-units", metavar="HOW",
                      help="compute hidden units far larger than all others apart: auto (default, where the outputs"
                           " gain), none")
    plan.add_argument("--zero-points", metavar="HOW",
                      help="of one-sided tensors, as ReLU and GELU give: auto (default, where they are free), none")
    plan.add_argument("--states", metavar="TYPE",
                      help="of recurrences, between calls of a one-step graph: float (default) or int8")
    plan.add_argument("--search", metavar="HOW", help="how long --method auto measures: fast (default) or full")
    plan.add_argument("--float-share", metavar="X", help="share of the work, where it hurts most, to keep float (0.1)")
    plan.add_argument("--goal-sqnr", metavar="DB", help="but only while the outputs stay below this SQNR (25)")
    plan.add_argument("--bits", metavar="wNaM",
                      help="bits of weights and activations: each 4, 6 or 8 (w8a8); or w4a16, int4 in blocks")
    plan.add_argument("--bits-file", metavar="FILE", help="TOML or JSON: node regex to wNaM, where nodes differ")
    plan.add_argument("--softmax", metavar="HOW",
                      help="levels of attention probabilities: uniform (default), tan, log2, log_sqrt2, or auto")
    plan.add_argument("--softmax-bits", metavar="N", help="bits of these levels, 3 to 8; default: as --bits says")
    plan.add_argument("--softmax-form", metavar="F",
                      help="integer (default): on the grid of integer kernels; float: exact levels, to simulate")
    plan.add_argument("--plan", metavar="FILE", help="a plan.json to carry out")
    plan.add_argument("--passes", metavar="+X,-Y", action="append", help="add and remove passes; see `qcompile passes`")
    graph = made.add_argument_group("the emitted graph")
    graph.add_argument("--carrier", metavar="TYPE", help="float type around the integers: fp16 or fp32")
    graph.add_argument("--format", metavar="F", help="onnx (default), or ort: also model.ort, for minimal onnxruntimes")
    graph.add_argument("--portable", action="store_true", help="only standard operators")
    graph.add_argument(
        "--shape",
        metavar="IN:1x3x224x224",
        action="append",
        dest="shapes",
        help="shape of an input, or its min,opt,max shapes; repeatable",
    )
    for word in ("min", "opt", "max"):
        graph.add_argument(f"--{word}-shapes", metavar="IN:1x128,...", help=f"{word} shapes, as trtexec has them")
    graph.add_argument(
        "--build-check",
        metavar="WHEN",
        help="NVIDIA's parser and builder: auto (default), on (exit 1 unless they accept), off",
    )
    graph.add_argument(
        "--dump-after", metavar="PASS", action="append", help="write the model after this pass; repeatable"
    )
    graph.add_argument("--dump-dir", metavar="DIR", help="where dumps go; default <output>.dumps")
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Compile; returns the exit status.

    Raises:
        QcompileError: As `compile_model` and `write_bundle`.
    """
    source = Path(args.model)
    if not source.is_file():
        raise UsageError("no such file" if not source.exists() else "is not a file", where=str(source))
    from qcompiler.bundle import check_output, write_bundle
    from qcompiler.config import to_options
    from qcompiler.registry import find_target

    options = to_options(settings)
    target = find_target(options.target)
    output = Path(settings.get("output") or f"{source.stem}.{target.name}")
    dry, force = bool(settings.get("dry_run")), bool(settings.get("force"))
    if dry and options.dump_after:
        raise UsageError("a dry run writes nothing, and --dump-after writes files", where="--dry-run")
    if not dry:
        check_output(output, source, force=force)
    options = replace(options, verify=False, build_check="off") if dry else _with_dumps(options, output)
    start = time.perf_counter()
    result = _compile(source, options, settings)
    if options.build_check == "on" and result.check.get("verdict") != "accepted":
        verdict = f"the build check says {result.check.get('verdict', 'nothing')}"
        result = replace(result, gates=(*result.gates, verdict))
    written = not dry and not result.gates
    if written:
        write_bundle(result, output, force=force)
    _show(result, output if written else None, settings, dry=dry, seconds=time.perf_counter() - start)
    return ExitCode.GATE if result.gates else ExitCode.OK


def _with_dumps(options: CompileOptions, output: Path) -> CompileOptions:
    if not options.dump_after or options.dump_dir is not None:
        return options
    return replace(options, dump_dir=output.with_name(f"{output.name}.dumps"))


def _compile(source: Path, options: CompileOptions, settings: Mapping[str, Any]) -> CompileResult:
    from qcompiler.driver import compile_model
    from qcompiler.progress import for_stream

    progress = for_stream(quiet=bool(settings.get("quiet")))
    try:
        return compile_model(source, options, progress=progress)
    finally:
        progress.done()


def _show(
    result: CompileResult, output: Path | None, settings: Mapping[str, Any], *, dry: bool, seconds: float
) -> None:
    from qcompiler.commands.logs import log_diagnostics

    log_diagnostics(result.diagnostics, settings)
    if result.calibration.get("source") == "synthetic" and settings.get("json") and not settings.get("quiet"):
        print(
            "qcompile: warning: the scales come from synthetic inputs: pass real samples with --calib", file=sys.stderr
        )
    if settings.get("json"):
        from qcompiler.report import encode, report_document

        document = report_document(result)
        document["seconds"] = {name: round(value, 3) for name, value in result.seconds.items()}
        document["output"] = None if output is None else str(output)
        sys.stdout.write(encode(document).decode())
    elif not settings.get("quiet"):
        from qcompiler.show import show_plan, show_result

        show_result(result, output, seconds=seconds, verbose=int(settings.get("verbose", 0)))
        if dry:
            show_plan(result)
    for line in result.gates:
        print(f"qcompile: gate missed: {line}; nothing was written", file=sys.stderr)
