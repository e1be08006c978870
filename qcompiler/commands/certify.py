"""`qcompile certify A B`: proof that two float models compute the same, or the tensor where they part."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompiler.commands.arguments import Parser, add_data, add_shared, check_data
from qcompiler.errors import ExitCode

OWN = ("samples",)


def parser() -> Parser:
    """Arguments of `certify`."""
    made = Parser(
        "qcompile certify",
        "Prove that two float models compute the same: both run in float64 where that is possible, on random inputs\n"
        "and on --calib; the bound follows from the graphs. Exit status 1 where they differ.",
    )
    made.add_argument("model", metavar="A", help="the reference")
    made.add_argument("other", metavar="B", help="the candidate, with the same inputs and outputs")
    add_data(made)
    made.add_argument("--samples", metavar="N", default="2", help="random inputs (2), every second with two rows")
    made.add_argument("--shape", metavar="IN:1x3x224x224", action="append", dest="shapes",
                      help="shape of an input, for random inputs; repeatable")  # fmt: skip
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Certify; returns GATE where the models differ."""
    from qcompiler.api import certify
    from qcompiler.config import count, to_options

    check_data(args, settings)
    options = to_options(settings)
    found = certify(
        Path(args.model), Path(args.other), options.calib, samples=count(args.samples, "--samples"),
        preprocess=options.preprocess, max_samples=options.max_samples, seed=options.seed, threads=options.threads,
        shapes={name: profile[1] for name, profile in options.shapes.items()},
    )  # fmt: skip
    if settings.get("json"):
        from qcompiler.report import encode

        sys.stdout.write(encode({"schema": "qcompile-certificate/1", **found.to_json()}).decode())
    elif not settings.get("quiet"):
        from qcompiler.show import show_certificate

        show_certificate(found)
    if not found.holds:
        print(f"qcompile: gate missed: {found.reason}", file=sys.stderr)
    return ExitCode.OK if found.holds else ExitCode.GATE
