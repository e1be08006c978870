"""onnxruntime's own quantizers at the settings that were found to serve them best, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Group = Literal["static uint8", "static TensorRT-legal", "dynamic"]

_WEIGHTED = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to call `quantize_static` or `quantize_dynamic`.

    Attributes:
        ops: Operator types to quantize; empty for all that the quantizer knows.
        activation: Container of activations; "" for dynamic, which has none.
        extra: `extra_options` of onnxruntime.
        quick: Whether the short form of the benchmark takes it.
        ask_nvidia: Whether NVIDIA's parser and builder are asked; the groups' other members get the same answer.
    """

    name: str
    group: Group
    ops: tuple[str, ...] = _WEIGHTED
    activation: Literal["", "QUInt8", "QInt8"] = "QUInt8"
    weight: Literal["QUInt8", "QInt8"] = "QInt8"
    method: Literal["MinMax", "Percentile"] = "MinMax"
    seven_bits: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False
    ask_nvidia: bool = False


# Signed, zero point 0, pairs on inputs only: what TensorRT takes, and more accurate than pairs on outputs as well.
_LEGAL = Setting(
    "static s8s8, inputs only",
    "static TensorRT-legal",
    activation="QInt8",
    extra={
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,  # NVIDIA's parser refuses int32 behind DequantizeLinear
        "OpTypesToExcludeOutputQuantization": list(_WEIGHTED),
    },
)

SETTINGS = (
    Setting("static u8s8, all operators", "static uint8", ops=(), ask_nvidia=True),
    Setting("static u8s8", "static uint8"),
    Setting("static u8s8, weights of 7 bits", "static uint8", seven_bits=True, quick=True),
    Setting("static u8u8", "static uint8", weight="QUInt8", extra={"WeightSymmetric": False}),
    Setting("static u8s8, constant MatMul only", "static uint8", extra={"MatMulConstBOnly": True}),
    Setting("static u8s8, percentile", "static uint8", method="Percentile"),
    Setting("static u8s8, weights of 7 bits, percentile", "static uint8", method="Percentile", seven_bits=True),
    replace(_LEGAL, quick=True, ask_nvidia=True),
    replace(_LEGAL, name=f"{_LEGAL.name}, percentile", method="Percentile"),
    Setting("dynamic s8", "dynamic", ops=("MatMul", "Gemm"), activation="", ask_nvidia=True),
    Setting(
        "dynamic s8, weights of 7 bits", "dynamic", ops=("MatMul", "Gemm"), activation="", seven_bits=True, quick=True
    ),
    Setting("dynamic u8", "dynamic", ops=("MatMul", "Gemm"), activation="", weight="QUInt8", quick=True),
    Setting("dynamic u8, all operators", "dynamic", ops=(), activation="", weight="QUInt8"),
)


def setting(name: str) -> Setting:
    """The setting called `name`; KeyError otherwise."""
    return {item.name: item for item in SETTINGS}[name]
