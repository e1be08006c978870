"""A hint where equalization would likely help and was not asked for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.first_samples import first_samples, why_not_measured
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.options import CompileOptions
from qcompiler.passes.equalize.sample_rows import sample_rows
from qcompiler.passes.sites.norm_sites import norm_sites
from qcompiler.passes.sites.records import Site
from qcompiler.plan import QuantPlan

SAMPLES = 4
RATIO = 10.0
"""Of a norm's largest channel to its median one. MiniLM and paraphrase-MiniLM, which gain, have 20 and 19; a ViT, a
decoder and PP-OCR, where nothing is taken, 6, 3 and 4."""


def suggest(
    model: ir.Model, plan: QuantPlan, source: Source, options: CompileOptions, sqnr: float | None
) -> list[Diagnostic]:
    """One line where outputs stay below the goal and norms have channels far larger than the others.

    Args:
        model: As it was quantized, in float.
        sqnr: Of the outputs in dB, where it was measured.
    """
    asked = options.equalize not in ("none", "recipe") or options.plan is not None or plan.equalize
    if asked or sqnr is None or sqnr >= options.goal_sqnr:
        return []
    sites = [
        item
        for item in norm_sites(model)
        if isinstance(item, Site) and any(reader.node.name in plan.nodes for reader in item.readers)
    ]
    if not sites or why_not_measured(model, source):
        return []
    feeds = first_samples(model, source, SAMPLES, held_back=options.validate is None)
    seen = sample_rows(model, sites, feeds, threads=options.threads)
    peaks = [np.maximum(np.abs(rows.low), np.abs(rows.high)) for rows in seen.values()]
    ratios = [float(item.max() / max(float(np.median(item)), 1e-30)) for item in peaks]
    large = [item for item in ratios if item >= RATIO]
    if not large:
        return []
    what = (f"channels of {len(large)} of {len(ratios)} norms are up to {max(large):.0f} times the median one, "
            f"and the outputs stay at {sqnr:.1f} dB")  # fmt: skip
    return [Diagnostic("QC207", Severity.INFO, "--equalize", what, "--equalize auto would likely help")]
