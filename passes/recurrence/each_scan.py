"""The Scans of a model, one after the other, and what is reported of them."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from qcompiler.graph import all_nodes
from qcompiler.passes.recurrence.scans import ScanParts, read_scan
from qcompiler.pipeline import Outcome, Skip


class Refused(Exception):
    """Why a Scan stays as it is."""


def each_scan(model: ir.Model, act: Callable[[ScanParts], bool]) -> Outcome:
    """Rewrite every Scan, also in bodies. One whose axes are unknown is left alone.

    Args:
        act: Rewrites one, or says False where there is nothing to do; raises `Refused` before it changes anything.
    """
    matched: list[str] = []
    skipped: list[Skip] = []
    for node in list(all_nodes(model)):
        if node.op_type != "Scan":
            continue
        site, parts = node.name or "Scan", read_scan(node)
        if parts is None:
            skipped.append(Skip(site, "its axes are unknown"))
            continue
        try:
            if act(parts):
                matched.append(site)
        except Refused as reason:
            skipped.append(Skip(site, str(reason)))
    return Outcome(bool(matched), tuple(matched), tuple(skipped))
