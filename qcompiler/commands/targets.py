"""`qcompile targets`: targets and the rules that each enforces."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from qcompiler.commands.arguments import Parser, add_shared
from qcompiler.errors import ExitCode


def parser() -> Parser:
    """Arguments of `targets`."""
    made = Parser("qcompile targets", "List targets and the rules that each enforces.")
    made.add_argument("name", metavar="TARGET", nargs="?", default=None, help="only this one")
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Print the table of targets."""
    from qcompiler.registry import find_target, target_names

    targets = [find_target(name) for name in ([args.name] if args.name else target_names())]
    if settings.get("json"):
        keys = ("name", "title", "aliases", "opset", "runtime", "carrier", "carriers", "host", "rules")
        print(json.dumps([{key: getattr(target, key) for key in keys} for target in targets], indent=1))
        return ExitCode.OK
    for target in targets:
        also = f" (also {', '.join(target.aliases)})" if target.aliases else ""
        print(f"{target.name}{also}: {target.title}")
        print(f"  {target.runtime}; opset {target.opset}; carrier {' or '.join(target.carriers)}")
        for rule in target.rules:
            print(f"  - {rule}")
    return ExitCode.OK
