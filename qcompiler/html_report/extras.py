"""What the page shows beyond report.json: from the compile's own objects, made small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qcompiler.html_report.channel_bars import channel_bars
from qcompiler.html_report.estimates import board_estimates
from qcompiler.html_report.node_map import node_map
from qcompiler.manifest import plain
from qcompiler.version import tool_versions

if TYPE_CHECKING:
    from qcompiler.calibration.summaries import HistogramSummary
    from qcompiler.pipeline import PassRun
    from qcompiler.result import CompileResult

HISTOGRAMS = 1500
"""Of more tensors those are drawn whose codes clip the largest share."""
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Extras:
    """Everything is JSON's types.

    Attributes:
        nodes: See `node_map`.
        histograms: [tensor, low, high, smallest and largest number a code stands for, share clipped, 64 counts].
        channels: See `channel_bars`.
        examples: By run of a pass: the first sites that matched, and by reason the first that were skipped.
        estimates: See `board_estimates`.
        scripts: Shell scripts of the bundle, by name.
        versions: Of this distribution and what shapes its output.
    """

    nodes: dict[str, Any] = field(default_factory=dict)
    histograms: list[list[Any]] = field(default_factory=list)
    channels: list[dict[str, Any]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)
    estimates: dict[str, Any] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def extras_of(result: CompileResult) -> Extras:
    """Gather them; for TensorRT's targets this runs the graph once."""
    return Extras(
        nodes=node_map(result.reference, result.plan),
        histograms=_histograms(result.histograms),
        channels=channel_bars(result.rewritten),
        examples=[_examples(run) for run in result.runs],
        estimates=board_estimates(result),
        scripts={
            name: content.decode("utf-8", "replace")
            for name, content in sorted(result.extra_files.items())
            if name.endswith(".sh")
        },
        versions=tool_versions(),
    )


def _histograms(found: Any) -> list[list[Any]]:
    most = sorted(found, key=lambda name: -found[name].clipped)[:HISTOGRAMS]
    kept = set(most)
    return [_histogram(name, item) for name, item in found.items() if name in kept]


def _histogram(name: str, item: HistogramSummary) -> list[Any]:
    low, high, first, last = (plain(float(f"{value:.4g}")) for value in (item.low, item.high, *item.reach))
    return [name, low, high, first, last, float(f"{item.clipped:.3g}"), list(item.counts)]


def _examples(run: PassRun) -> dict[str, Any]:
    skipped: dict[str, list[str]] = {}
    for skip in run.outcome.skipped:
        places = skipped.setdefault(skip.reason, [])
        if len(places) < EXAMPLES:
            places.append(skip.where)
    return {"matched": list(run.outcome.matched[:EXAMPLES]), "skipped": skipped}
