"""Whether equalization is likely to pay, told from four samples: what the default looks at before it measures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.first_samples import first_samples, why_not_measured
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.options import CompileOptions
from qcompiler.passes.equalize.sample_rows import Rows, sample_rows
from qcompiler.passes.equalize.trials import Trials
from qcompiler.passes.quant.select_sites import select_sites
from qcompiler.passes.sites.norm_sites import norm_sites
from qcompiler.passes.sites.records import Site
from qcompiler.precision import Precisions
from qcompiler.target import Target

SAMPLES = 4
RATIO = 10.0
"""Of a norm's largest channel to its median one. MiniLM and paraphrase-MiniLM, which gain, have 20 and 19; a ViT, a
decoder and PP-OCR, where nothing is taken, 6, 3 and 4."""


@dataclass(frozen=True, slots=True)
class LikelyGain:
    """What was seen.

    Attributes:
        likely: Norms have large channels, the outputs stay below the goal, and the data is of a kind to measure on.
        facts: For the report: `looked_at`, `large` (numbers of norms), `largest_ratio`, and `sqnr` of the outputs in
            dB where that was measured; empty where there was nothing to look at.
        diagnostics: What will be done, or why it cannot be.
    """

    likely: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()


def likely_gain(
    model: ir.Model,
    target: Target,
    source: Source,
    options: CompileOptions,
    precisions: Precisions,
    float_nodes: Collection[str],
) -> LikelyGain:
    """Look at the channels behind norms and, only where some are large, at the outputs of a quick quantization.

    Synthetic inputs only give a hint: shifts and factors of channels would be made up as they are, and these, unlike
    the scale of a tensor, can spoil a channel that real data would have left alone.

    Args:
        model: In canonical form, in float.

    Raises:
        QcompileError: As reading the data.
    """
    quantized = select_sites(model, target.placement, float_nodes, precisions).activations
    sites = [
        item
        for item in norm_sites(model)
        if isinstance(item, Site) and any(quantized.get(str(reader.node.name)) for reader in item.readers)
    ]
    if not sites:
        return LikelyGain()
    if why := why_not_measured(model, source):
        fix = "" if source.repeatable else "give a list, a function that makes the iterator, or a folder"
        return _hint({}, f"whether equalization pays was not measured: {why}", fix)
    feeds = first_samples(model, source, SAMPLES, held_back=options.validate is None)
    seen = sample_rows(model, sites, feeds, threads=options.threads)
    ratios = _ratios([seen[site.name] for site in sites])
    large = [ratio for ratio in ratios if ratio >= RATIO]
    facts: dict[str, Any] = {
        "looked_at": len(sites), "large": len(large), "largest_ratio": round(max(ratios, default=0.0), 1),
    }  # fmt: skip
    if not large:
        return LikelyGain(facts=facts)
    trials = Trials(
        model, target, (), {}, feeds, feeds, float_nodes=frozenset(float_nodes), precisions=precisions,
        goal=options.goal_sqnr, share=options.float_share, threads=options.threads,
    )  # fmt: skip
    sqnr = trials.measure({"none": {}})["none"].tuned
    facts["sqnr"] = round(sqnr, 1)
    if sqnr >= options.goal_sqnr:
        return LikelyGain(facts=facts)
    what = f"channels of {len(large)} of {len(sites)} norms are up to {max(large):.0f} times the median one"
    if source.name == "synthetic":
        message = f"{what}: --equalize auto would likely help, and is not measured on synthetic inputs"
        return _hint(facts, message, "give --calib")
    taken = Diagnostic("QC209", Severity.INFO, "--equalize", f"{what}: rewritten where that is measured to pay",
                       "--equalize none leaves it")  # fmt: skip
    return LikelyGain(True, facts, (taken,))


def _ratios(seen: Sequence[Rows]) -> list[float]:
    """Of the largest channel to the median one; norms that saw nothing, or NaN or infinity, are left out."""
    peaks = [np.maximum(np.abs(rows.low), np.abs(rows.high)) for rows in seen]
    return [float(item.max() / max(float(np.median(item)), 1e-30)) for item in peaks if np.isfinite(item).all()]


def _hint(facts: Mapping[str, Any], message: str, fix: str) -> LikelyGain:
    return LikelyGain(False, facts, (Diagnostic("QC207", Severity.INFO, "--equalize", message, fix),))
