"""Scans go along the first axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph import FreshNames
from qcompiler.passes.recurrence.build import Builder, rename_to
from qcompiler.passes.recurrence.each_scan import Refused, each_scan
from qcompiler.passes.recurrence.over_time import rank_of
from qcompiler.passes.recurrence.scans import ScanParts, settle_sizes, write_scan
from qcompiler.pipeline import Outcome, Pass


@dataclass(frozen=True)
class TimeFirst(Pass):
    """Scan along axis k of x becomes Scan along axis 0 of Transpose(x); the same for what it gives.

    onnxruntime does the same inside each time it runs; outside, the Transposes merge with others and the rewrites of
    scans know one form. Sizes known outside are written on the body's inputs.
    """

    name: ClassVar[str] = "time-first"

    def run(self, model: ir.Model) -> Outcome:
        fresh = FreshNames(model)

        def act(parts: ScanParts) -> bool:
            moved = [item for item in (*parts.inputs, *parts.outputs) if item.axis]
            settled = settle_sizes(parts)
            known = all(rank_of(item.inner) is not None for item in moved)
            if not known and not settled:
                raise Refused("the rank of what goes along is unknown")
            if moved and known:
                _move(parts, fresh)
            return settled or bool(moved)

        return each_scan(model, act)


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
