"""How close the quantized model stays to float, for the ranges of any draw, on samples held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.collect import Thresholds
from qcompiler.analysis.prepare import Subject
from qcompiler.numerics import sqnr
from qcompiler.passes.quant.make_plan import make_plan
from qcompiler.passes.quant.quantize_weights import QuantizeWeights
from qcompiler.passes.quant.switched_model import SwitchedModel
from qcompiler.plan import QuantPlan
from qcompiler.session import Feeds, Session
from qcompiler.target import Target

Floats = npt.NDArray[np.float64]
CEILING = 120.0
"""dB; an exact output counts as this."""


class ActivationFidelity:
    """SQNR of the float outputs, in dB, with every planned activation quantized and weights float.

    One session serves all ranges. Weights are left float because their noise is the same whatever the calibration set:
    it could only hide differences.

    Args:
        start: Thresholds for the plan; every measurement brings its own.
        feeds: The samples to judge on.
    """

    def __init__(
        self, subject: Subject, target: Target, start: Thresholds, feeds: Sequence[Feeds], *, threads: int = 0
    ) -> None:
        self._subject, self._target = subject, target
        self.plan = make_plan(subject.model, target, subject.sites, start)
        self._switched = SwitchedModel(subject.model, self.plan, feeds, threads=threads)

    def decibels(self, thresholds: Thresholds) -> Floats:
        """SQNR of each sample with these ranges; mean over outputs."""
        plan = make_plan(self._subject.model, self._target, self._subject.sites, thresholds, self.plan.weights)
        scales = {tensor: float(quant.scale) for tensor, quant in plan.tensors.items()}
        return self.decibels_of_scales(scales)

    def decibels_of_scales(self, scales: Mapping[str, float]) -> Floats:
        """The same with scales by tensor; those of the plan where a tensor is missing."""
        switched = self._switched
        noises = np.array([switched.sample_noise(i, switched.nodes, scales) for i in range(switched.samples)])
        return np.asarray(np.minimum(-10 * np.log10(np.maximum(noises, 1e-30)), CEILING))


def weights_only_decibels(
    subject: Subject, plan: QuantPlan, feeds: Sequence[Feeds], *, threads: int = 0
) -> float | None:
    """SQNR with int8 weights and float activations, mean over samples and float outputs: no calibration changes it.

    None where the plan quantizes no weight.
    """
    if not plan.weights:
        return None
    quantized = subject.model.clone()
    QuantizeWeights(plan).run(quantized)
    reference, candidate = Session(subject.model, threads=threads), Session(quantized, threads=threads)
    found = []
    for feed in feeds:
        wanted, outputs = reference.run_sample(feed), candidate.run(feed)
        found += [
            sqnr(array, outputs[name]) for name, array in wanted.items() if array.dtype.kind == "f" and array.size
        ]
    return float(np.mean(np.clip(found, -CEILING, CEILING))) if found else None
