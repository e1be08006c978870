"""Structured state-space duality of Mamba-2 (arXiv 2405.21060, section 6): one decay a head, chunks as products.

    h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t]^T        y[t] = h[t] C[t] + D x[t]

Shapes: x [batch, T, H, P], dt [batch, T, H] (after softplus), A [H] (negative), B, C [batch, T, N] (one group for all
heads), D [H], state [batch, H, P, N]. All are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from models.nets.selective_scan import full_precision, pair_decays
from qcompiler.torch_export import scan

CHUNK = 64
Form = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], "tuple[Tensor, Tensor]"]


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial_state: Tensor | None = None,
    form: str = "chunked",
) -> tuple[Tensor, Tensor]:
    """y [batch, T, H, P] in x's type and the last state [batch, H, P, N] in float32.

    Args:
        form: A key of FORMS: "sequential" (the recurrence as it reads), "scan" (the same, exported as one ONNX Scan) or
            "chunked" (matrix products, no loop).
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r} of SSD; known: {', '.join(FORMS)}")
    if initial_state is None:
        initial_state = x.new_zeros((x.shape[0], x.shape[2], x.shape[3], B.shape[2]), dtype=torch.float32)
    with full_precision(x):
        wide = [tensor.float() for tensor in (x, dt, A, B, C, initial_state)]
        y, last = FORMS[form](*wide)
        return (y + D.float()[:, None] * wide[0]).to(x.dtype), last


def ssd_step(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One step without the D term: x [batch, H, P], dt [batch, H], B, C [batch, N] to y [batch, H, P] and state."""
    decay = torch.exp(dt * A)[:, :, None, None]
    state = decay * state + (dt.unsqueeze(-1) * x).unsqueeze(-1) * B[:, None, None, :]
    return torch.matmul(state, C[:, None, :, None]).squeeze(-1), state


def _sequential(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    rows = []
    for t in range(x.shape[1]):
        row, state = ssd_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], state)
        rows.append(row)
    return torch.stack(rows, dim=1), state


def _chunked(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Within a chunk (C B^T * decays) x; between chunks one product with the decays of all pairs of chunks.

    Padded steps have dt = 0: they keep the state.
    """
    batch, length, heads, size = x.shape
    padding = (-length) % CHUNK
    chunks = (length + padding) // CHUNK
    x = F.pad(x * dt.unsqueeze(-1), (0, 0, 0, 0, 0, padding))
    x = x.reshape(batch, chunks, CHUNK, heads, size).transpose(2, 3)
    log_decay = F.pad(dt * A, (0, 0, 0, padding)).reshape(batch, chunks, CHUNK, heads).transpose(2, 3)
    B, C = (F.pad(t, (0, 0, 0, padding)).reshape(batch, chunks, 1, CHUNK, t.shape[-1]) for t in (B, C))
    within = torch.cumsum(log_decay, dim=-1)  # [batch, chunks, H, CHUNK]
    within_pairs = pair_decays(log_decay)
    y = torch.matmul(torch.matmul(C, B.transpose(-1, -2)) * within_pairs, x)
    # What each chunk leaves [batch, chunks, H, P, N], then the state before each chunk.
    left = torch.matmul((x * within_pairs[..., -1, :].unsqueeze(-1)).transpose(-1, -2), B)
    left = torch.cat([state.unsqueeze(1), left], dim=1)
    decays = pair_decays(F.pad(within[..., -1].transpose(1, 2), (1, 0)))  # [batch, H, chunks + 1, chunks + 1]
    flat = left.transpose(1, 2).reshape(batch, heads, chunks + 1, -1)
    before = torch.matmul(decays, flat).reshape(batch, heads, chunks + 1, size, -1).transpose(1, 2)
    y = y + torch.matmul(C, before[:, :-1].transpose(-1, -2)) * torch.exp(within).unsqueeze(-1)
    y = y.transpose(2, 3).reshape(batch, length + padding, heads, size)
    return y[:, :length], before[:, -1]


def _scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence with all axes in place beforehand: see `qcompiler.torch_export.scan` on TensorRT."""

    def body(before: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        decay, x, B, C = now  # [batch, H, 1, 1], [batch, H, P, 1], [batch, 1, 1, N], [batch, 1, N, 1]
        after = decay * before + x * B
        return after, torch.matmul(after, C)

    decay, x = torch.exp(dt * A)[..., None, None], (dt.unsqueeze(-1) * x).unsqueeze(-1)
    last, y = scan(body, state, (decay, x, B[:, :, None, None], C[:, :, None, :, None]))
    return y.squeeze(-1), last


FORMS: dict[str, Form] = {"sequential": _sequential, "scan": _scan, "chunked": _chunked}
