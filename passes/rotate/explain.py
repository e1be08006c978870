"""What can be rotated in a model, and what cannot and why: as a table that a person reads, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx_ir as ir

from qcompiler.passes.rotate.gated_sites import gated_sites
from qcompiler.passes.rotate.head_values import head_values
from qcompiler.passes.rotate.residual_streams import NoStream, residual_streams
from qcompiler.passes.rotate.rotate_down import down_sites
from qcompiler.passes.rotate.rotations import Kind, found_sites
from qcompiler.passes.rotate.score_operands import score_operands
from qcompiler.passes.sites.records import Refusal


def rotations(model: ir.Model) -> dict[str, Any]:
    """Counts by kind, each site with its readers, and each candidate that is none with its reason."""
    found = found_sites(model)
    return {
        "counts": {kind: len(sites) for kind, sites in found.items()},
        "matched": [
            {"site": name, "kind": kind, "readers": list(readers)}
            for kind, sites in found.items()
            for name, readers in sites.items()
        ],
        "skipped": [{"site": name, "kind": kind, "reason": reason} for kind, name, reason in _refused(model)],
    }


def rotation_table(found: dict[str, Any]) -> str:
    """One line a candidate, then the counts; empty where there is none."""
    rows = [(item["kind"], "matched", item["site"], _readers(len(item["readers"]))) for item in found["matched"]]
    rows += [(item["kind"], "skipped", item["site"], item["reason"]) for item in found["skipped"]]
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
             for row in rows]  # fmt: skip
    total = ", ".join(f"{count} {kind}" for kind, count in found["counts"].items()) or "none"
    return "\n".join([*lines, f"can be rotated: {total}; skipped: {len(found['skipped'])}"])


def _refused(model: ir.Model) -> Iterator[tuple[Kind, str, str]]:
    candidates: dict[Kind, Iterable[Any]] = {
        "residual": residual_streams(model), "heads": head_values(model), "down": down_sites(model),
        "gated": gated_sites(model), "scores": score_operands(model),
    }  # fmt: skip
    for kind, items in candidates.items():
        for item in items:
            if isinstance(item, (NoStream, Refusal)):
                yield kind, item.name, item.reason


def _readers(count: int) -> str:
    return f"{count} reader{'s' * (count != 1)}"
