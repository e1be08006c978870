"""Which nodes the user keeps in float (--include, --exclude, --exclude-op) or gives other bits (--bits-file).

A pattern that matches nothing is an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import onnx_ir as ir

from qcompiler.errors import UsageError
from qcompiler.options import CompileOptions
from qcompiler.precision import Precision, Precisions, parse_precision, read_bits_file


def nodes_kept_float(model: ir.Model, options: CompileOptions) -> frozenset[str]:
    """Names of nodes that the options keep out of quantization.

    Patterns are searched for anywhere in a node's name (`re.search`), as grep does.

    Raises:
        UsageError: Not a regular expression, or one that matches no node; the nearest names are given.
    """
    names = [str(node.name) for node in model.graph.all_nodes()]
    kept: set[str] = set()
    if options.include:
        included = {name for pattern in options.include for name in _matching(pattern, names, "--include")}
        kept.update(name for name in names if name not in included)
    for pattern in options.exclude:
        kept.update(_matching(pattern, names, "--exclude"))
    ops = {node.op_type for node in model.graph.all_nodes()}
    for op in options.exclude_op:
        if op not in ops:
            near = difflib.get_close_matches(op, ops, n=3, cutoff=0.5) or sorted(ops)[:8]
            raise UsageError(
                f"the model has no operator {op!r}", where="--exclude-op", hint=f"it has {', '.join(near)}"
            )
        kept.update(str(node.name) for node in model.graph.all_nodes() if node.op_type == op)
    return frozenset(kept)


def node_precisions(model: ir.Model, options: CompileOptions) -> Precisions:
    """The bits of every node by `bits` and `bits_file`; among patterns that match a node the last counts.

    Raises:
        UsageError: As `nodes_kept_float`, for the patterns of the file; a word that is no precision.
    """
    default = parse_precision(options.bits, "--bits")
    if options.bits_file is None:
        return Precisions(default)
    names = [str(node.name) for node in model.graph.all_nodes()]
    chosen: dict[str, Precision] = {}
    for pattern, precision in read_bits_file(options.bits_file).items():
        chosen.update(dict.fromkeys(_matching(pattern, names, str(options.bits_file)), precision))
    return Precisions(default, chosen)


def _matching(pattern: str, names: Sequence[str], where: str) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}", where=where) from error
    found = [name for name in names if expression.search(name)]
    if not found:
        near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or list(names[:3])
        raise UsageError(f"{pattern!r} matches no node", where=where, hint=f"nearest: {', '.join(near)}")
    return found
