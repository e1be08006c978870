"""The state that a state-space model carries from call to call."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class LayerState(NamedTuple):
    """One layer's state.

    Attributes:
        conv_state: The last K - 1 inputs of the convolution, [batch, channels, K - 1].
        ssm_state: [batch, E, N] (Mamba-1) or [batch, heads, P, N] (Mamba-2), float32.
    """

    conv_state: Tensor
    ssm_state: Tensor


def causal_conv(
    x: Tensor, conv_state: Tensor | None, weight: Tensor, bias: Tensor, shifts: bool = False
) -> tuple[Tensor, Tensor]:
    """Depthwise convolution over the past: x [batch, T, channels], weight [channels, 1, K] to the same shape as x.

    Also gives the next conv_state; without one, the past is zeros.

    Args:
        shifts: Compute it as a sum of K shifted products: for training, where the gradient of a depthwise convolution
            is slow and a compiler fuses the sum.
    """
    kept = weight.shape[-1] - 1
    columns = x.transpose(1, 2)
    if conv_state is None:
        conv_state = torch.zeros_like(columns[:, :, :1]).expand(-1, -1, kept)
    columns = torch.cat([conv_state.to(columns.dtype), columns], dim=-1)
    if shifts:
        rows, length = columns.transpose(1, 2), x.shape[1]
        y = sum((rows[:, k : k + length] * weight[:, 0, k] for k in range(kept + 1)), bias)
        return y.to(x.dtype), columns[:, :, -kept:]
    y = F.conv1d(columns, weight, bias, groups=weight.shape[0])
    return y.transpose(1, 2), columns[:, :, -kept:]
