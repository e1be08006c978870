"""`qcompile verify A B --calib D`: two models on the same inputs, and the first tensor where they diverge."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompiler.commands.arguments import Parser, add_data, add_shared, check_data
from qcompiler.errors import ExitCode


def parser() -> Parser:
    """Arguments of `verify`."""
    made = Parser("qcompile verify", "Compare two models by outputs and inner tensors. Exit status 1 under a bound.")
    made.add_argument("model", metavar="A", help="the reference")
    made.add_argument("other", metavar="B", help="the candidate; inputs and outputs pair by name, else by position")
    add_data(made)
    made.add_argument("--min-sqnr", metavar="DB", help="lowest signal to noise ratio in dB; 20 where no bound is given")
    made.add_argument("--min-cosine", metavar="C", help="lowest mean cosine")
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Compare; returns GATE where an output is under a bound."""
    from qcompiler.api import verify
    from qcompiler.config import to_options

    check_data(args, settings, ("preprocess",))  # without samples --max-samples says how many are made up
    options = to_options({key: value for key, value in settings.items() if key not in ("min_sqnr", "min_cosine")})
    found = verify(
        Path(args.model), Path(args.other), calibration=options.calib, preprocess=options.preprocess,
        max_samples=options.max_samples, seed=options.seed, threads=options.threads, min_sqnr=settings.get("min_sqnr"),
        min_cosine=settings.get("min_cosine"),
    )  # fmt: skip
    if settings.get("json"):
        from qcompiler.report import encode, verification_document

        sys.stdout.write(encode(verification_document(found)).decode())
    elif not settings.get("quiet"):
        from qcompiler.show import show_verification

        show_verification(found)
    for line in found.missed:
        print(f"qcompile: gate missed: {line}", file=sys.stderr)
    return ExitCode.GATE if found.missed else ExitCode.OK
