"""A benchmark as JSON: {"schema": "qcompile-bench/1", "inputs", "measured", "estimated", "notes"}; times in ms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from qcompiler.bench.measure import Timing
from qcompiler.bench.roofline import Bound, Estimate
from qcompiler.bench.run import BenchResult
from qcompiler.manifest import plain

SCHEMA: Final = "qcompile-bench/1"


def bench_document(result: BenchResult) -> dict[str, Any]:
    """Everything that was found, all regions included."""
    estimates = [
        {"board": half.board.name, "title": half.board.title, "fp16": _estimate(half), "int8": _estimate(integer)}
        for half, integer in result.estimates
    ]
    return {
        "schema": SCHEMA,
        "inputs": {"source": result.source, "shapes": plain(result.shapes)},
        "threads": result.threads,
        "measured": [_timing(item) for item in result.timings],
        "estimated": {"file": Path(result.estimated).name, "boards": estimates},
        "notes": list(result.notes),
    }


def _timing(item: Timing) -> dict[str, Any]:
    return {
        "file": Path(item.file).name, "rounds": item.rounds, "first_ms": plain(item.first),
        "median_ms": plain(item.median), "p90_ms": plain(item.p90), "p99_ms": plain(item.p99),
        "per_second": plain(item.per_second), "speed": plain(item.speed), "peak_mib": plain(item.peak_mib),
    }  # fmt: skip


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "ms": plain(found.seconds * 1e3),
        "kernels": sum(item.region.calls for item in found.bounds),
        "bound_by": {by: plain(found.share(by)) for by in ("memory", "matrix", "vector")},
        "regions": _regions(found.bounds),
    }


def _regions(bounds: Sequence[Bound]) -> list[dict[str, Any]]:
    return [
        {
            "name": item.region.name, "op": item.region.op, "nodes": len(item.region.nodes),
            "calls": item.region.calls, "ms": item.seconds * 1e3, "bound_by": item.by,
            "integer": item.region.integer, "bytes": item.region.bytes,
            "operations": item.region.matrix + item.region.vector,
        }
        for item in bounds
    ]  # fmt: skip
