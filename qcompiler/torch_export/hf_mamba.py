"""Hugging Face's Mamba-1 loops over time in Python; here the loop is an ONNX Scan, so any length exports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qcompiler.torch_export.recurrence import scan

_MODULE = "transformers.models.mamba.modeling_mamba"
_FUNCTION = "mamba_selective_scan"


def loops_over_time(module: nn.Module) -> bool:
    """Whether the module has mixers of the one implementation that is known here."""
    return hasattr(sys.modules.get(_MODULE), _FUNCTION) and any(
        type(part).__module__ == _MODULE and type(part).__name__ == "MambaMixer" for part in module.modules()
    )


@contextmanager
def scanning(module: nn.Module) -> Iterator[None]:
    """transformers' selective scan replaced by one on `scan`; put back at the end. Nothing where there is none."""
    if not loops_over_time(module):
        yield
        return
    from transformers import cache_utils

    home: Any = sys.modules[_MODULE]
    layer: Any = cache_utils.LinearAttentionLayer
    before, update = getattr(home, _FUNCTION), layer.update_conv_state

    def update_any_length(self: Any, conv_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        # The original pads a text shorter than the kernel, and only that: a branch on the length. Zeros in front of a
        # longer one are what the convolution pads with anyway, and nothing reads that far back.
        if not self.has_previous_state[0] and kwargs.get("conv_kernel_size"):
            conv_states = F.pad(conv_states, (kwargs["conv_kernel_size"], 0))
        return update(self, conv_states, *args, **kwargs)

    setattr(home, _FUNCTION, selective_scan)
    layer.update_conv_state = update_any_length
    try:
        yield
    finally:
        setattr(home, _FUNCTION, before)
        layer.update_conv_state = update


def selective_scan(
    hidden_states: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
    z: Tensor | None = None, delta_bias: Tensor | None = None, delta_softplus: bool = False,
    return_last_state: bool = False, **_: Any,
) -> Any:  # fmt: skip
    """h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] u[t], y[t] = C[t] h[t] + D u[t], times SiLU(z); from zeros.

    Shapes as in the function it stands for: u, dt, z [batch, E, T], A [E, N], B and C [batch, N, T], D [E].
    """
    if delta_bias is not None:
        dt = dt + delta_bias.to(dt.dtype)[:, None]
    if delta_softplus:
        dt = F.softplus(dt)

    def step(state: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        u, delta, b, c = now  # [batch, E, 1] twice, [batch, 1, N], [batch, N, 1]
        new = torch.exp(delta * A) * state + delta * u * b
        return new, torch.matmul(new, c)

    zeros = hidden_states.new_zeros((hidden_states.shape[0], hidden_states.shape[1], A.shape[1]))
    along = (hidden_states.unsqueeze(2), dt.unsqueeze(2), B.unsqueeze(1), C.unsqueeze(2))  # time stays last
    last, y = scan(step, zeros, along, axis=-1)
    y = y.squeeze(2)
    if D is not None:
        y = y + hidden_states * D[:, None]
    if z is not None:
        y = y * F.silu(z)
    return (y, last) if return_last_state else y
