"""Clipping of what goes into a scan, chosen apart from all other tensors.

The input x of a selective scan is mostly small with rare large values; Quamba (arXiv:2410.13229, section 4.1) clips it
at a percentile given by hand. Here the percentile is of the pooled histogram, and taken where the outputs gain on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import fmean

import onnx_ir as ir

from qcompiler.calibration.observers import Histogram
from qcompiler.calibration.thresholds import find_threshold
from qcompiler.passes.quant.racing import race, standard_error
from qcompiler.passes.quant.select_sites import Sites
from qcompiler.passes.quant.switched_model import NO_NOISE, SwitchedModel, decibels
from qcompiler.passes.recurrence.roles import TensorRole, tensor_role

PERCENTILES = (100.0, 99.999, 99.99, 99.95, 99.9)
GAIN = 0.1
"""Decibels at the outputs, and twice their standard error, that a percentile has to gain over the rule of all."""
FEWEST_SAMPLES = 4
_RULE = 0.0


@dataclass(frozen=True, slots=True)
class ScanInputs:
    """Source tensor to threshold where a percentile is taken; and what was measured, for the report."""

    thresholds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)


def clip_scan_inputs(
    model: ir.Model,
    sites: Sites,
    tensors: Mapping[str, Histogram],
    switched: SwitchedModel,
    nodes: Collection[str],
    scales: Mapping[str, float],
) -> ScanInputs:
    """Try percentiles for tensors with the role SCAN_INPUT, all with the same one.

    Args:
        tensors: Histograms by source.
        nodes: What is quantized.
        scales: Tensor to scale by the rule that was chosen for all.
    """
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    wanted = [tensor for tensor, source in sites.sources.items()
              if tensor_role(values.get(source)) is TensorRole.SCAN_INPUT and tensor in scales]  # fmt: skip
    if not wanted:
        return ScanInputs()
    thresholds = {
        percentile: {
            sites.sources[tensor]: find_threshold(tensors[sites.sources[tensor]], "percentile",
                                                  percentile=percentile).value
            for tensor in wanted
        }
        for percentile in PERCENTILES
    }
    given: dict[float, Mapping[str, float]] = {_RULE: scales}
    for percentile, found in thresholds.items():
        own = {tensor: found[sites.sources[tensor]] / sites.steps(sites.sources[tensor]) for tensor in wanted}
        given[percentile] = {**scales, **own}

    def measure(percentile: float, index: int) -> float:
        return decibels(max(switched.sample_noise(index, nodes, given[percentile]), NO_NOISE))

    raced = race(given, measure, switched.samples, fewest=FEWEST_SAMPLES)
    levels = raced.measured[raced.best]
    gains = [one - other for one, other in zip(levels, raced.measured[_RULE], strict=False)]
    pays = raced.best != _RULE and fmean(gains) > max(GAIN, 2 * standard_error(gains, 0.0))
    facts: dict[str, object] = {
        "tensors": len(wanted), "percentile": raced.best if pays else None,
        "sqnr": {str(key) if key else "rule": round(fmean(found), 2) for key, found in raced.measured.items()},
    }  # fmt: skip
    return ScanInputs(thresholds[raced.best] if pays else {}, facts)
