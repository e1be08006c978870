"""Quantization schemes: integer type, granularity, symmetry; and a scheme with its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PerTensor:
    """One scale for the whole tensor; scale has shape ()."""


@dataclass(frozen=True, slots=True)
class PerAxis:
    """One scale per slice along `axis` (per-channel); scale has shape (size of axis,)."""

    axis: int


@dataclass(frozen=True, slots=True)
class PerBlock:
    """One scale per `size` consecutive elements along `axis` (opset 21)."""

    axis: int
    size: int


Granularity = PerTensor | PerAxis | PerBlock


@dataclass(frozen=True, slots=True)
class QuantScheme:
    """How real numbers map to integers: q = clip(round_half_even(x / scale) + zero_point, qmin, qmax).

    Attributes:
        dtype: The integer type of the codes.
        symmetric: The zero point is 0 and the range is [-qmax, qmax], so that negation is exact.
        bits: Width of the grid inside the container, at most the width of `dtype`.
    """

    dtype: ir.DataType = ir.DataType.INT8
    granularity: Granularity = PerTensor()
    symmetric: bool = True
    bits: int = 8

    @property
    def qmax(self) -> int:
        """The largest code: 127 for 8 bits."""
        return (1 << (self.bits - 1)) - 1

    @property
    def qmin(self) -> int:
        """The smallest code: -127 where symmetric, -128 otherwise."""
        return -self.qmax if self.symmetric else -self.qmax - 1


@dataclass(frozen=True, slots=True, eq=False)
class TensorQuant:
    """A scheme with its numbers.

    Attributes:
        scale: float32, positive and finite; shape () per tensor, (channels,) per axis; per block that of the tensor
            with the blocked axis divided by the block's size.
        zero_point: Integers of the scheme's type in the shape of `scale`; None means zeros.
    """

    scheme: QuantScheme
    scale: FloatArray
    zero_point: npt.NDArray[np.integer] | None = None

    @property
    def axis(self) -> int | None:
        """The channel axis, or None per tensor."""
        granularity = self.scheme.granularity
        return None if isinstance(granularity, PerTensor) else granularity.axis


INT8_ACTIVATION = QuantScheme()


def int8_weight(axis: int) -> QuantScheme:
    """Symmetric int8 per output channel along `axis`."""
    return QuantScheme(granularity=PerAxis(axis))
