"""`qcompile diff A B`: what changed between two models, bundles or plans, matched by structure."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.commands.arguments import Parser, add_data, add_shared, check_data
from qcompiler.errors import ExitCode, UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.diffing.compare import DiffOptions
    from qcompiler.diffing.difference import Difference
    from qcompiler.session import Feeds

OWN = ("format", "ignore", "rtol_scale", "quant_only", "output_file")
FORMATS = ("text", "json", "md", "html")


def parser() -> Parser:
    """Arguments of `diff`."""
    made = Parser(
        "qcompile diff",
        "What changed between two models, two bundles or two plan.json. Nodes are matched by structure, so that other\n"
        "names or another order are no change. Exit status 1 where a change reaches --fail-on.",
    )
    made.add_argument("model", metavar="A", help="before: an .onnx file, a bundle or a plan.json")
    made.add_argument("other", metavar="B", help="after")
    made.add_argument("--fail-on", metavar="LEVEL", default="weights",
                      help="interface > precision > structure > scales > weights (default) > names")  # fmt: skip
    made.add_argument("--ignore", metavar="LEVEL", action="append", default=[], help="drop these changes; repeatable")
    made.add_argument("--rtol-scale", metavar="R", default="0.01", help="how far a scale may move (0.01 of it)")
    made.add_argument("--quant-only", action="store_true", default=False, help="quantization, and nothing else")
    made.add_argument("--format", metavar="F", default=None, help="text (default), json, md or html")
    made.add_argument("--target", metavar="T", help="whose rules lint; default that of a bundle, else orin")
    made.add_argument("-o", "--output", dest="output_file", metavar="FILE", default=None, help="write there instead")
    made.add_argument("--force", action="store_true", help="replace an existing output")
    add_data(made, "both models run on these samples", made_up=False)
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Compare; returns GATE where a change reaches --fail-on."""
    form = args.format or ("json" if settings.get("json") else "text")
    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}", where="--format", hint=f"one of {', '.join(FORMATS)}")
    if form != "json" and hasattr(args, "json"):
        raise UsageError(f"asks for another format than --format {form}", where="--json", hint="leave one out")
    check_data(args, settings)
    if args.quant_only and hasattr(args, "calib"):
        raise UsageError("the models are not run for --quant-only", where="--calib", hint="leave one out")
    options = _options(settings, args)
    places = [Path(args.model), Path(args.other)]
    output = None if args.output_file is None else Path(args.output_file)
    from qcompiler.diffing.compare import compare_sides
    from qcompiler.diffing.sides import read_side
    from qcompiler.output_files import check_files, write_whole

    if output is not None:
        check_files([output], places, force=bool(settings.get("force")))
    first, second = (read_side(place) for place in places)
    if options.samples is not None and (first.model is None or second.model is None):
        raise UsageError("a plan alone can't be run", where="--calib", hint="leave it out, or compare bundles")
    found = compare_sides(first, second, options)
    if output is not None:
        text = io.StringIO()
        _write(found, form, text, verbose=bool(settings.get("verbose")))
        write_whole(output, text.getvalue().encode())
    elif not settings.get("quiet"):
        _write(found, form, sys.stdout, verbose=bool(settings.get("verbose")))
    if found.fails and form == "text":
        print(f"qcompile: gate missed: {found.verdict}; --fail-on {found.fail_on.word}", file=sys.stderr)
    return ExitCode.GATE if found.fails else ExitCode.OK


def _options(settings: Mapping[str, Any], args: argparse.Namespace) -> DiffOptions:
    from qcompiler.config import to_options
    from qcompiler.diffing.changes import parse_level
    from qcompiler.diffing.compare import DiffOptions

    data = to_options(settings)

    def samples(model: ir.Model) -> Iterable[Feeds]:
        from qcompiler.calibration.data import input_specs, open_source

        assert data.calib is not None
        return open_source(data.calib, input_specs(model), preprocess=data.preprocess, max_samples=data.max_samples)

    return DiffOptions(
        fail_on=parse_level(args.fail_on, "--fail-on"),
        ignored=frozenset(parse_level(word, "--ignore") for item in args.ignore for word in item.split(",")),
        tolerance=_tolerance(args.rtol_scale),
        target=settings.get("target"),
        quantization_only=args.quant_only,
        samples=None if data.calib is None else samples,
        threads=data.threads,
    )


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"expected a number from 0 on, got {text!r}", where="--rtol-scale")
    return value


def _write(found: Difference, form: str, file: Any, *, verbose: bool) -> None:
    if form == "json":
        from qcompiler.diffing.document import difference_document
        from qcompiler.report import encode

        file.write(encode(difference_document(found)).decode())
    elif form == "md":
        from qcompiler.diffing.markdown import difference_markdown

        file.write(difference_markdown(found))
    elif form == "html":
        from qcompiler.diffing.html import difference_html

        file.write(difference_html(found))
    else:
        from qcompiler.diffing.text import show_difference
        from qcompiler.show import console

        show_difference(found, console(None if file is sys.stdout else file), verbose=verbose)
