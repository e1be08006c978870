"""`qcompile show FILE --stable`: a model as text, for git's textconv."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompiler.commands.arguments import Parser, add_shared
from qcompiler.errors import ExitCode, UsageError

OWN = ("stable",)


def parser() -> Parser:
    """Arguments of `show`."""
    made = Parser(
        "qcompile show",
        "A model as text: one line for each node and each weight.\n"
        "git config diff.onnx.textconv 'qcompile show --stable' and `*.onnx diff=onnx` in .gitattributes let\n"
        "`git diff` show models.",
    )
    made.add_argument("model", metavar="FILE", help="an .onnx file, or the git-LFS pointer to one")
    made.add_argument("--stable", action="store_true", default=False,
                      help="in an order that depends on no list of the file; there is no other form yet")  # fmt: skip
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Print the lines.

    Raises:
        QcompileError: The file is not an ONNX model.
    """
    if not args.stable:
        raise UsageError("say in which form", hint="--stable is the one there is")
    if settings.get("json"):
        raise UsageError("a model as text has no JSON form", where="--json", hint="leave it out")
    from qcompiler.diffing.stable_text import stable_text

    for line in stable_text(Path(args.model)):
        print(line)
    return ExitCode.OK
