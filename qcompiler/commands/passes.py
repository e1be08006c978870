"""`qcompile passes`: the passes with the first line of each docstring."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from qcompiler.commands.arguments import Parser, add_shared
from qcompiler.errors import ExitCode


def parser() -> Parser:
    """Arguments of `passes`."""
    made = Parser("qcompile passes", "List passes, for --passes and --dump-after.")
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Print the table of passes."""
    from qcompiler.registry import find_pass, pass_names

    lines = {name: (find_pass(name).__doc__ or "").strip().partition("\n")[0] for name in pass_names()}
    if settings.get("json"):
        print(json.dumps(lines, indent=1))
        return ExitCode.OK
    width = max((len(name) for name in lines), default=0)
    for name, line in lines.items():
        print(f"{name:<{width}}  {line}")
    return ExitCode.OK
