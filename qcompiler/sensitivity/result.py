"""What a measurement of layers found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from qcompiler.diagnostics import Diagnostic

Metric = Literal["sqnr", "cosine", "kl"]
METRICS: tuple[Metric, ...] = ("sqnr", "cosine", "kl")
Unit = Literal["node", "group"]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How close outputs stay to float.

    Attributes:
        sqnr: In dB, 120 at most: mean over samples, where a sample's noise is the geometric mean over float outputs.
        error: Standard error of that mean over samples; None for one sample.
        cosine: Mean over samples and float outputs of the cosine of the flattened tensors.
        kl: Mean of KL(softmax(float) || softmax(quantized)) in nats along the last axis, over rows, samples and outputs
            whose last axis has several elements; None where no output has. It means something for class scores.
    """

    sqnr: float
    error: float | None
    cosine: float
    kl: float | None

    def loss(self, metric: Metric) -> float:
        """The larger, the further from float; infinite where the metric does not exist."""
        if metric == "kl":
            return float("inf") if self.kl is None else self.kl
        return -self.sqnr if metric == "sqnr" else -self.cosine


@dataclass(frozen=True, slots=True)
class Layer:
    """A node, or nodes that play the same part in repeated blocks.

    Attributes:
        name: Of its first node.
        nodes: In graph order.
        multiply_adds: On the first sample.
        share: Of the multiply-adds of all layers.
        alone: With only this layer quantized.
        cumulative: With this layer and all that lose less quantized, those that lose more in float.
    """

    name: str
    nodes: tuple[str, ...]
    op_type: str
    multiply_adds: int
    share: float
    alone: Fidelity
    cumulative: Fidelity

    @property
    def label(self) -> str:
        """The name without the operator that exporters put last."""
        return self.name.removesuffix(f"/{self.op_type}") or self.name


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """All layers, those that lose most first.

    Attributes:
        bits: Of weights and activations, as in `--bits`.
        calibration: Where ranges come from.
        judged: Samples that layers were measured on, which ranges did not see.
        rewrites: What the options changed before layers were measured: kinds of rotations, and how many sites were
            equalized, weights rounded on data, tensors looked up. Empty where nothing.
    """

    model: str
    target: str
    bits: str
    unit: Unit
    metric: Metric
    calibration: dict[str, Any]
    judged: int
    layers: tuple[Layer, ...]
    diagnostics: tuple[Diagnostic, ...] = field(default=())
    rewrites: dict[str, Any] = field(default_factory=dict)

    @property
    def all_quantized(self) -> Fidelity:
        """With every layer quantized."""
        return self.layers[0].cumulative
