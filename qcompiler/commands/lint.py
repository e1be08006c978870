"""`qcompile lint FILE --target T`: a Q/DQ graph against the rules of a target, without its runtime."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompiler.commands.arguments import Parser, add_shared
from qcompiler.errors import ExitCode, UsageError


def parser() -> Parser:
    """Arguments of `lint`."""
    made = Parser("qcompile lint", "Check a Q/DQ graph against a target's rules. Exit status 1 on findings.")
    made.add_argument("model", metavar="FILE", help="an .onnx file, whoever wrote it")
    made.add_argument("--target", metavar="T", help="whose rules; default ort-cpu")
    made.add_argument("--fail-on", metavar="LEVEL", default="error", help="error (default) or warning")
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Lint one file; returns GATE on findings at or above --fail-on."""
    if args.fail_on not in ("error", "warning"):
        raise UsageError(f"unknown level {args.fail_on!r}", where="--fail-on", hint="error or warning")
    from qcompiler.api import lint
    from qcompiler.diagnostics import DiagnosticLog, Severity

    findings = lint(Path(args.model), target=settings.get("target", "ort-cpu"))
    failing = DiagnosticLog(list(findings)).at_least(Severity(args.fail_on))
    if settings.get("json"):
        print(json.dumps({"file": Path(args.model).name, "findings": [item.to_json() for item in findings]}, indent=1))
    elif not settings.get("quiet"):
        for item in findings:
            print(item)
        print(f"{len(findings)} findings, {len(failing)} at or above {args.fail_on}")
    return ExitCode.GATE if failing else ExitCode.OK
