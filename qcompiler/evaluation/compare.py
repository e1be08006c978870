"""Fidelity of one model to another on the same inputs: SQNR, cosine, maximum error, agreement."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorFidelity:
    """How close one tensor is to its reference over all samples.

    Attributes:
        sqnr: 10 log10(sum of reference squared / sum of error squared), in dB; infinite where equal.
        cosine: Mean over samples of the cosine of the flattened tensors.
        max_error: Largest absolute difference.
        agreement: Share of equal arg-max along the last axis; None where the last axis has one element.
    """

    name: str
    sqnr: float
    cosine: float
    max_error: float
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Fidelity by output, and by inner tensor in graph order.

    Attributes:
        layers: Outputs of quantized nodes present in both models, where the error arises.
    """

    samples: int
    outputs: tuple[TensorFidelity, ...]
    layers: tuple[TensorFidelity, ...] = ()
