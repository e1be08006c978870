"""`qcompile sensitivity MODEL --calib D`: what each layer loses when it is quantized, and files for a compile."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qcompiler.commands.arguments import Parser, add_data, add_shared
from qcompiler.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from qcompiler.options import CompileOptions

OWN = ("by", "metric", "samples", "plot", "write", "keep", "share", "count")
COMPILED = (
    ("bits-file", "nodes that have other bits"),
    ("equalize", "shift and scale channels before: recipe (default), none, auto, os_plus, smooth, ..."),
    ("split-units", "compute hidden units far larger than all others apart: auto (default) or none"),
    ("rotate", "rotate before: recipe (default), none, auto, all, or residual,heads,down,gated,scores"),
    ("rounding", "codes of weights: nearest (default), gptq, auto"),
    ("softmax", "levels of attention probabilities: uniform (default), tan, log2, log_sqrt2, auto"),
    ("softmax-bits", "bits of these levels, 3 to 8"),
    ("softmax-form", "integer (default) or float"),
    ("zero-points", "of one-sided tensors: auto (default) or none"),
    ("search", "how long --method auto measures: fast (default) or full"),
    ("goal-sqnr", "below this SQNR in dB the options with auto try more (25)"),
)
EPILOG = """\
the file of --write goes to a compile with the same --bits: --bits-file FILE, or --config FILE after --keep float"""


def parser() -> Parser:
    """Arguments of `sensitivity`."""
    made = Parser("qcompile sensitivity", "What each layer loses at the outputs when it is quantized.", EPILOG)
    made.add_argument("model", metavar="MODEL", help="a float .onnx file")
    made.add_argument("--bits", metavar="wNaM", help="bits of weights and activations: w8a8 (default), w6a6, w4a4, ...")
    made.add_argument("--by", metavar="WHAT", help="node (default), or group: the same part of all blocks together")
    made.add_argument("--metric", metavar="M", help="order by sqnr (default), cosine or kl")
    made.add_argument("--samples", metavar="N", help="samples, held back from --calib, to measure layers on (8)")
    made.add_argument("--validate", metavar="D", help="samples to measure layers on instead")
    add_data(made, "needed; the word synthetic makes inputs up")
    made.add_argument("--target", metavar="T", help="whose placement decides what is quantized (ort-cpu)")
    made.add_argument("--include", metavar="RE", action="append", help="only nodes whose name matches; repeatable")
    made.add_argument("--exclude", metavar="RE", action="append", help="nodes that stay float; repeatable")
    made.add_argument("--exclude-op", metavar="OP", action="append", help="operator types that stay float; repeatable")
    made.add_argument("--method", metavar="M", help="clipping, as in a compile: auto (default), minmax, mse, ...")
    made.add_argument("--config", metavar="FILE", help="a TOML file with the options of a compile")
    form = made.add_argument_group("options of a compile", "layers are measured as it would quantize them")
    for name, help_text in COMPILED:
        form.add_argument(f"--{name}", metavar="FILE" if name == "bits-file" else "HOW", help=help_text)
    files = made.add_argument_group("files")
    files.add_argument("--write", metavar="FILE", help="the most sensitive layers, for a compile (.toml or .json)")
    files.add_argument("--keep", metavar="B", help="what these keep: 8 (default below 8 bits), 6, or float")
    files.add_argument("--share", metavar="X", help="up to this share of the multiply-adds (0.1)")
    files.add_argument("--count", metavar="N", help="at most N layers; without --share whatever their work")
    files.add_argument("--plot", metavar="FILE", help="a figure, .png or .svg; needs matplotlib")
    files.add_argument("--force", action="store_true", help="replace existing files")
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Measure, write, print; returns OK.

    Raises:
        QcompileError: As `measure_sensitivity` and `keep_layers`; a bad option, a file that exists or can't be written.
    """
    from qcompiler.config import to_options
    from qcompiler.output_files import check_files
    from qcompiler.sensitivity.keep import check_keep
    from qcompiler.sensitivity.result import METRICS

    source = Path(args.model)
    if not source.is_file():
        raise UsageError("no such file" if not source.exists() else "is not a file", where=str(source))
    unit, metric = _word(args, "by", ("node", "group")), _word(args, "metric", METRICS)
    samples = int(_number(args, "samples", 8, least=1))
    write, plot = _file(args, "write"), _file(args, "plot")
    share = _number(args, "share", None, least=0.0, most=1.0)
    count = _number(args, "count", None, least=1)
    bits = str(settings.get("bits", "w8a8"))
    keep = str(getattr(args, "keep", "float" if bits == "w8a8" else "8"))
    if write is None and (lost := next((name for name in ("keep", "share", "count") if hasattr(args, name)), "")):
        raise UsageError("says what to write, and nothing is written", where=f"--{lost}", hint="give --write FILE")
    if write is not None:
        keep = check_keep(keep, bits, write)
    check_files([file for file in (write, plot) if file is not None], [source], force=bool(settings.get("force")))
    if plot is not None:
        _check_plot(plot)
    from qcompiler.progress import for_stream
    from qcompiler.sensitivity.keep import keep_layers
    from qcompiler.sensitivity.run import measure_sensitivity

    progress = for_stream(quiet=bool(settings.get("quiet")))
    options = to_options(settings)
    try:
        found = measure_sensitivity(source, options, unit=cast(Any, unit), metric=cast(Any, metric),
                                    samples=samples, progress=progress)  # fmt: skip
    finally:
        progress.done()
    kept = keep_layers(found.layers, share, None if count is None else int(count)) if write is not None else ()
    _finish(found, options, kept, keep, write, plot, settings)
    return ExitCode.OK


def _finish(
    found: Any, options: CompileOptions, kept: Sequence[Any], keep: str, write: Path | None, plot: Path | None,
    settings: Mapping[str, Any],
) -> None:  # fmt: skip
    """Files, then the screen."""
    from qcompiler.commands.logs import log_diagnostics
    from qcompiler.output_files import write_whole
    from qcompiler.report import encode
    from qcompiler.sensitivity.document import sensitivity_document
    from qcompiler.sensitivity.keep import FLOAT, compile_line, file_text

    written = None
    if write is not None:
        share = sum(layer.share for layer in kept)
        option = "--config" if keep == FLOAT else "--bits-file"
        written = {"file": str(write), "option": option, "keep": keep, "layers": len(kept), "share": share}
    document = sensitivity_document(found, kept, written)
    if plot is not None:
        from qcompiler.sensitivity.plot import plot_sensitivity

        write_whole(plot, plot_sensitivity(document, plot.suffix[1:]))
    if write is not None:
        write_whole(write, file_text(found, options, kept, keep, json_form=write.suffix != ".toml").encode())
    if settings.get("json"):
        log_diagnostics(found.diagnostics, settings)
        sys.stdout.write(encode(document).decode())
        return
    log_diagnostics(found.diagnostics, {**settings, "quiet": True})  # the screen shows them itself
    if settings.get("quiet"):
        return
    from qcompiler.sensitivity.show import show_sensitivity

    show_sensitivity(found, kept, verbose=int(settings.get("verbose", 0)))
    if written is not None:
        how = "in float" if keep == FLOAT else f"at {keep}"
        print(f"\n{write}: {len(kept)} of {len(found.layers)} {how}, {written['share']:.1%} of the work; "
              f"{compile_line(found, options, str(written['option']), str(write))}")  # fmt: skip
    if plot is not None:
        print(f"{'' if written else chr(10)}{plot}: figure")


def _file(args: argparse.Namespace, name: str) -> Path | None:
    text = getattr(args, name, None)
    if text == "":
        raise UsageError("expected the name of a file", where=f"--{name}")
    return None if text is None else Path(text)


def _word(args: argparse.Namespace, name: str, known: Sequence[str]) -> str:
    word = str(getattr(args, name, known[0]))
    if word not in known:
        raise UsageError(f"unknown value {word!r}", where=f"--{name}", hint=f"one of {', '.join(known)}")
    return word


def _number(
    args: argparse.Namespace, name: str, default: float | None, *, least: float, most: float | None = None
) -> Any:
    """A number of at least `least`: whole where there is no upper bound."""
    text = getattr(args, name, None)
    if text is None:
        return default
    kind = "a whole number" if most is None else "a number"
    try:
        number: float = int(text) if most is None else float(text)
    except ValueError:
        raise UsageError(f"expected {kind}, got {text!r}", where=f"--{name}") from None
    if not number >= least or (most is not None and not least < number <= most):
        bounds = f"at least {least:g}" if most is None else f"above {least:g} and at most {most:g}"
        raise UsageError(f"{text} is out of range", where=f"--{name}", hint=f"it must be {bounds}")
    return number


def _check_plot(file: Path) -> None:
    if file.suffix not in (".png", ".svg"):
        raise UsageError(f"{file.suffix or 'no ending'} is no kind of figure", where="--plot",
                         hint="name a .png or .svg file")  # fmt: skip
    if find_spec("matplotlib") is None:
        raise UsageError("plots need matplotlib", where="--plot", hint="pip install 'qcompile-onnx[plots]'")
