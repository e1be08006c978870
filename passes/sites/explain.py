"""The sites of a model as a table that a person reads, and as JSON."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx_ir as ir

from qcompiler import registry
from qcompiler.passes.canonical.pipeline import canonical_passes
from qcompiler.passes.fold.pipeline import fold_passes
from qcompiler.passes.normalize.pipeline import normalize_passes
from qcompiler.passes.recurrence.pipeline import recurrence_passes, scan_passes
from qcompiler.passes.sites.records import Found, Site
from qcompiler.pipeline import PassRun, Pipeline
from qcompiler.reading import load_model


def canonical_form(path: Path, target_name: str) -> tuple[ir.Model, tuple[PassRun, ...]]:
    """The model as the rewrites of a compile for that target get it, and what brought it there.

    Raises:
        QcompileError: As `load_model`; an unknown target.
    """
    target = registry.find_target(target_name)
    passes = (
        *scan_passes(),
        *normalize_passes(target.opset, target.native_ops),
        *canonical_passes(target.opset, target.native_ops),
        *recurrence_passes(target.scan_form),
        *(registry.find_pass(name)() for name in target.spellings),
        *fold_passes(),
    )
    return Pipeline(passes).run(load_model(path))


def explain(found: Found) -> dict[str, Any]:
    """Counts by kind, each site, and each candidate that is none with its reason."""
    return {
        "counts": dict(Counter(site.kind.value for site in found.sites)),
        "matched": [site.describe() for site in found.sites],
        "skipped": [
            {"site": item.name, "kind": item.kind.value, "reason": item.reason} for item in found.refused
        ],
    }  # fmt: skip


def table(found: Found) -> str:
    """One line a candidate, then the counts."""
    rows = [(site.kind.value, "matched", site.name, _what(site)) for site in found.sites]
    rows += [(item.kind.value, "skipped", item.name, item.reason) for item in found.refused]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    counts = Counter(site.kind.value for site in found.sites)
    total = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "none"
    return "\n".join([*lines, f"matched: {total}; skipped: {len(found.refused)}"])


def _what(site: Site) -> str:
    parts = [f"{site.channels} channels", f"{len(site.readers)} reader{'s' * (len(site.readers) > 1)}"]
    if not site.scales:
        parts.append("by added nodes")
    elif not site.shifts:
        parts.append("scale only")
    if site.edges:
        parts.append(f"residual edge to {', '.join(str(edge.node.name) for edge in site.edges)}")
    if tied := site.describe().get("tied"):
        parts.append(f"tied weights are copied: {', '.join(map(str, tied))}")
    return ", ".join(parts)
