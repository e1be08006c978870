"""Reference arithmetic of quantization, in numpy: the integers that every backend must reproduce."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.scheme import FloatArray, PerAxis, PerBlock, QuantScheme, TensorQuant

SMALLEST_SCALE = np.float32(2.0**-24)
"""Floor for scales of dead channels: exact in float16 too (its smallest subnormal), so no carrier turns it into 0."""

PAIR_LIMIT = 128
"""255 * 128 < 2^15: the largest |w0 + w1| whose products with two unsigned 8-bit activations fit 16 bits."""


def broadcast_scale(quant: TensorQuant, shape: tuple[int, ...]) -> FloatArray:
    """The scale in a shape that broadcasts against a tensor of `shape`."""
    granularity = quant.scheme.granularity
    if isinstance(granularity, PerAxis):
        form = [1] * len(shape)
        form[granularity.axis] = -1
        return quant.scale.reshape(form)
    if isinstance(granularity, PerBlock):
        return np.repeat(quant.scale, granularity.size, axis=granularity.axis)
    return quant.scale


def quantize(array: npt.NDArray[Any], quant: TensorQuant) -> npt.NDArray[Any]:
    """Codes: clip(round_half_even(x / scale) + zero_point), in the scheme's integer type and the shape of `array`.

    The division is done in float32, as QuantizeLinear does.
    """
    scheme = quant.scheme
    codes = np.divide(array, broadcast_scale(quant, array.shape), dtype=np.float32)
    np.rint(codes, out=codes)
    if quant.zero_point is not None:
        codes += quant.zero_point.astype(np.float32)
    np.clip(codes, scheme.qmin, scheme.qmax, out=codes)
    result: npt.NDArray[Any] = codes.astype(scheme.dtype.numpy())
    return result


def dequantize(codes: npt.NDArray[Any], quant: TensorQuant) -> FloatArray:
    """(codes - zero_point) * scale, float32, in the shape of `codes`."""
    real = codes.astype(np.float32)
    if quant.zero_point is not None:
        real -= quant.zero_point.astype(np.float32)
    real *= broadcast_scale(quant, codes.shape)
    return real


def weight_scale(weight: npt.NDArray[Any], scheme: QuantScheme, *, pair_axis: int | None = None) -> FloatArray:
    """Per-channel scales: the largest magnitude of each slice along the scheme's axis goes to qmax.

    Args:
        weight: Any float array.
        pair_axis: The axis that a kernel sums along. Where given, scales also keep |w0 + w1| of neighbours 2i, 2i + 1
            along it within `PAIR_LIMIT` codes, so that x86 kernels without VNNI (two 8-bit products added in 16 bits)
            cannot saturate. It costs at most one bit, 0.4 bits on Gaussian weights.

    Returns:
        float32 of shape (channels,), at least `SMALLEST_SCALE`.
    """
    axis = scheme.granularity.axis if isinstance(scheme.granularity, PerAxis) else None
    real = np.asarray(weight, np.float32)
    others = tuple(index for index in range(real.ndim) if index != axis) if axis is not None else None
    scale = np.abs(real).max(axis=others, initial=0) / np.float32(scheme.qmax)
    if pair_axis is not None and real.shape[pair_axis] > 1:
        even, odd = _pairs(real, pair_axis)
        total = np.abs(even + odd).max(axis=others, initial=0)
        # each code may round up by half, so that the pair may exceed its real sum by one
        scale = np.maximum(scale, total / np.float32(PAIR_LIMIT - 1))
    result: FloatArray = np.maximum(scale, SMALLEST_SCALE).astype(np.float32)
    return result


def conv_weight_scale(weight: npt.NDArray[Any], scheme: QuantScheme) -> FloatArray:
    """As `weight_scale` with bounded pairs, for a Conv weight [out, in, ...] whatever order a kernel sums it in."""
    scales = [weight_scale(form, scheme, pair_axis=1) for form in unfolded(weight)]
    result: FloatArray = np.maximum.reduce(scales)
    return result


def unfolded(weight: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """A Conv weight [out, in, ...] as kernels sum it, along axis 1: channels first, last, and by position."""
    channels = weight.shape[0]
    return weight.reshape(channels, -1), np.moveaxis(weight, 1, -1).reshape(channels, -1), weight


def pairs_fit(codes: npt.NDArray[Any], pair_axis: int) -> bool:
    """Whether no two neighbouring codes along `pair_axis` can saturate a 16-bit sum with unsigned 8-bit activations."""
    if codes.shape[pair_axis] < 2:
        return True
    even, odd = _pairs(codes, pair_axis)
    total = even.astype(np.int16) + odd
    return bool(total.max(initial=0) <= PAIR_LIMIT and total.min(initial=0) >= -PAIR_LIMIT)


def _pairs(array: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    length = array.shape[axis] // 2 * 2
    index: list[slice] = [slice(None)] * array.ndim
    index[axis] = slice(0, length, 2)
    even = array[tuple(index)]
    index[axis] = slice(1, length, 2)
    return even, array[tuple(index)]


def sqnr(reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """10 log10(sum reference^2 / sum (reference - other)^2) in dB; infinite where equal, 0 for an empty tensor."""
    noise = float(np.square(np.subtract(reference, other, dtype=np.float64)).sum())
    signal = float(np.square(reference, dtype=np.float64).sum())
    if noise == 0:
        return float("inf") if reference.size else 0.0
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")
