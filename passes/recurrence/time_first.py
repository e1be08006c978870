"""Scans go along the first axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import FreshNames, all_nodes
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.passes.recurrence.over_time import rank_of
from qcompiler.passes.recurrence.scans import ScanParts, read_scan, settle_sizes, write_scan
from qcompiler.pipeline import Outcome, Pass, Skip


@dataclass(frozen=True)
class TimeFirst(Pass):
    """Scan along axis k of x becomes Scan along axis 0 of Transpose(x); the same for what it gives.

    onnxruntime does the same inside each time it runs; outside, the Transposes merge with others and the rewrites of
    scans know one form. Sizes known outside are written on the body's inputs.
    """

    name: ClassVar[str] = "time-first"

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        fresh = FreshNames(model)
        for node in list(all_nodes(model)):
            parts = read_scan(node) if node.op_type == "Scan" else None
            settled = parts is not None and settle_sizes(parts)
            moved = [] if parts is None else [item for item in (*parts.inputs, *parts.outputs) if item.axis]
            site = node.name or "Scan"
            if settled:
                matched.append(site)
            if parts is None or not moved:
                continue
            if any(rank_of(item.inner) is None for item in moved):
                skipped.append(Skip(site, "the rank of what goes along is unknown"))
                continue
            _move(parts, fresh)
            matched += [site] * (not settled)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _move(parts: ScanParts, fresh: FreshNames) -> None:
    graph = parts.node.graph
    assert graph is not None
    make = Builder(graph, fresh, parts.node.name or "scan")
    for item in parts.inputs:
        if item.axis:
            order = list(range((rank_of(item.inner) or 0) + 1))
            order.insert(0, order.pop(item.axis))
            item.outer = make.op("Transpose", item.outer, perm=order)
            item.axis = 0
    make.insert_before(parts.node)
    turned = []
    for item in parts.outputs:
        if item.axis:
            order = list(range(1, (rank_of(item.inner) or 0) + 1))
            order.insert(item.axis, 0)
            turned.append((item, order))
            item.axis = 0
    scan = write_scan(parts)
    for item, order in turned:
        made = make.op("Transpose", item.outer, perm=order)
        node = make.nodes[-1]
        rename_to(item.outer, made)
        node.replace_input_with(0, item.outer)
        item.outer.shape = None
    make.insert_after(scan)
