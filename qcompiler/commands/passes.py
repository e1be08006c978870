"""`qcompile passes`: the passes with the first line of each docstring, or the sites of a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompiler.commands.arguments import Parser, add_shared
from qcompiler.errors import ExitCode, UsageError

OWN = ("explain",)


def parser() -> Parser:
    """Arguments of `passes`."""
    made = Parser("qcompile passes", "List passes, for --passes and --dump-after; or what they can rewrite in a model.")
    made.add_argument(
        "--explain", metavar="MODEL", default=None,
        help="where channels can be shifted, scaled and rotated, hidden units split off, which scans are known; where"
             " not, why",
    )  # fmt: skip
    made.add_argument("--target", metavar="T", help="whose operators the model is brought to (default ort-cpu)")
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Print the table of passes or of sites.

    Raises:
        QcompileError: As `load_model`.
    """
    if args.explain is None and hasattr(args, "target"):
        raise UsageError("the list of passes is that of all targets", where="--target", hint="give --explain MODEL")
    if args.explain is not None:
        return _explain(Path(args.explain), settings)
    from qcompiler.registry import find_pass, pass_names

    lines = {name: (find_pass(name).__doc__ or "").strip().partition("\n")[0] for name in pass_names()}
    if settings.get("json"):
        print(json.dumps(lines, indent=1))
        return ExitCode.OK
    width = max((len(name) for name in lines), default=0)
    for name, line in lines.items():
        print(f"{name:<{width}}  {line}")
    return ExitCode.OK


def _explain(path: Path, settings: Mapping[str, Any]) -> int:
    if not path.is_file():
        raise UsageError("no such file" if not path.exists() else "is not a file", where=str(path))
    from qcompiler.passes.recurrence.explain import recurrence_table, recurrences
    from qcompiler.passes.rotate.explain import rotation_table, rotations
    from qcompiler.passes.sites.explain import canonical_form, explain, table
    from qcompiler.passes.sites.find import find_sites
    from qcompiler.passes.split_units.explain import unit_splits, unit_table

    model, runs = canonical_form(path, str(settings.get("target") or "ort-cpu"))
    found, scans, turned, units = find_sites(model), recurrences(model, runs), rotations(model), unit_splits(model)
    if settings.get("json"):
        print(json.dumps(explain(found) | {"recurrences": scans, "rotations": turned, "units": units}, indent=1))
        return ExitCode.OK
    if scans:
        print(recurrence_table(scans), end="\n\n")
    for lines in (rotation_table(turned), unit_table(units)):
        if lines:
            print(lines, end="\n\n")
    print(table(found))
    return ExitCode.OK
