"""The selective scan for training: two levels over time, a gradient of its own that recomputes the states.

Autograd through any other form would keep several tensors [batch, T, E, N] a layer. Here only the inputs are kept,
and both directions work on slices of the batch of at most ELEMENTS floats a tensor, whatever the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ELEMENTS = 1 << 27  # 512 MiB in float32; about six such tensors are alive in the backward pass
CHUNK = 16  # one kernel for each of CHUNK positions, then one for each of T / CHUNK chunks


def linear_scan_(decay: Tensor, h: Tensor, state: Tensor) -> Tensor:
    """h[t] += decay[t] h[t-1] over axis 1, h[-1] = state: [batch, T, ...], both tensors written over; the last h."""
    length = h.shape[1]
    whole = length - length % CHUNK
    if whole:
        shape = (h.shape[0], whole // CHUNK, CHUNK, *h.shape[2:])
        a, x = decay[:, :whole].view(shape), h[:, :whole].view(shape)
        for q in range(1, CHUNK):
            x[:, :, q].addcmul_(a[:, :, q], x[:, :, q - 1])
            a[:, :, q].mul_(a[:, :, q - 1])
        for c in range(shape[1]):
            x[:, c].addcmul_(a[:, c], state.unsqueeze(1))
            state = x[:, c, -1]
    for t in range(whole, length):
        h[:, t].addcmul_(decay[:, t], state)
        state = h[:, t]
    return state


def _states(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """All states [batch, T, E, N] and the last one."""
    h = (dt * u).unsqueeze(-1) * B.unsqueeze(2)
    last = linear_scan_(torch.exp(dt.unsqueeze(-1) * A), h, state)
    return h, last


class ParallelScan(torch.autograd.Function):
    """(u, dt, A, B, C, state) to (y, last state), without the D term; shapes as in selective_scan.py, all float32."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        u, dt, A, B, C, state = inputs
        ctx.save_for_backward(*inputs)
        y, last = torch.empty_like(u), torch.empty_like(state)
        for part in _slices(u, A):
            h, last[part] = _states(u[part], dt[part], A, B[part], state[part])
            y[part] = torch.matmul(h, C[part].unsqueeze(-1)).squeeze(-1)
        return y, last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """With g = dL/dh: g[t] = C[t] dL/dy[t] + decay[t+1] g[t+1], a scan in the other direction."""
        u, dt, A, B, C, state = ctx.saved_tensors
        grad_y, grad_last = gradients
        grads = [
            torch.empty_like(u),
            torch.empty_like(dt),
            torch.zeros_like(A),
            torch.empty_like(B),
            torch.empty_like(C),
        ]
        grad_u, grad_dt, grad_a, grad_b, grad_c = grads
        grad_state = torch.empty_like(state)
        for p in _slices(u, A):
            h, _ = _states(u[p], dt[p], A, B[p], state[p])
            grad_c[p] = torch.matmul(h.transpose(2, 3), grad_y[p].unsqueeze(-1)).squeeze(-1)
            # Time reversed: position 0 is the last step; its incoming state is the gradient of the last state.
            decay = torch.exp(dt[p].unsqueeze(-1) * A)
            later = torch.cat([torch.ones_like(decay[:, :1]), decay[:, 1:].flip(1)], dim=1)
            g = (grad_y[p].unsqueeze(-1) * C[p].unsqueeze(2)).flip(1)
            linear_scan_(later, g, grad_last[p])
            del later
            g = g.flip(1)
            through_u = torch.matmul(g, B[p].unsqueeze(-1)).squeeze(-1)
            grad_b[p] = torch.matmul(g.transpose(2, 3), (dt[p] * u[p]).unsqueeze(-1)).squeeze(-1)
            grad_state[p] = decay[:, 0] * g[:, 0]
            # From here g is dL/d(dt A): g times decay times the state before.
            g.mul_(decay)
            g[:, 1:].mul_(h[:, :-1])
            g[:, 0].mul_(state[p])
            grad_u[p] = through_u * dt[p]
            grad_dt[p] = through_u * u[p] + (g * A).sum(-1)
            grad_a += (g * dt[p].unsqueeze(-1)).sum((0, 1))
        return (*grads, grad_state)


def _slices(u: Tensor, A: Tensor) -> list[slice]:
    """Slices of the batch, each of at most ELEMENTS floats [., T, E, N] (but at least one row)."""
    batch = u.shape[0]
    rows = max(1, ELEMENTS // (u.shape[1] * A.numel()))
    return [slice(start, min(start + rows, batch)) for start in range(0, batch, rows)]
