"""The selective scan of Mamba-1 (arXiv 2312.00752, equations 2 and 3) in forms that agree.

    h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] u[t]        y[t] = C[t] h[t] + D u[t]

Shapes: u, dt [batch, T, E] (dt after softplus), A [E, N] (negative), B, C [batch, T, N], D [E], state [batch, E, N].
All are computed in float32. The discretization of B is Euler's, as in the paper's code.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from models.nets.linear_scan import ParallelScan
from qcompiler.torch_export import scan

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], "tuple[Tensor, Tensor]"]
CHUNK = 32  # pairs of chunks cost (T / CHUNK)^2 E N floats, the scan within log2(CHUNK) T E N


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial_state: Tensor | None = None,
    form: str = "chunked",
) -> tuple[Tensor, Tensor]:
    """y [batch, T, E] in u's type and the last state [batch, E, N] in float32.

    Args:
        form: A key of FORMS: "sequential" (the recurrence as it reads, T steps), "scan" (the same, exported as one
            ONNX Scan), "chunked" (no loop over time, of
            plain tensor operations for export) or "parallel" (training: its own gradient, bounded memory).
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r} of the selective scan; known: {', '.join(FORMS)}")
    if initial_state is None:
        initial_state = u.new_zeros((u.shape[0], u.shape[2], A.shape[1]), dtype=torch.float32)
    with full_precision(u):
        wide = [tensor.float() for tensor in (u, dt, A, B, C, initial_state)]
        y, last = FORMS[form](*wide)
        return (y + D.float() * wide[0]).to(u.dtype), last


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Autocast switched off; nothing at all where it is off already (exporters would trace the switch)."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def scan_step(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One step without the D term: u, dt [batch, E], B, C [batch, N], state [batch, E, N] to y [batch, E] and state."""
    state = torch.exp(dt.unsqueeze(-1) * A) * state + (dt * u).unsqueeze(-1) * B.unsqueeze(1)
    return torch.matmul(state, C.unsqueeze(-1)).squeeze(-1), state


def _sequential(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    rows = []
    for t in range(u.shape[1]):
        row, state = scan_step(u[:, t], dt[:, t], A, B[:, t], C[:, t], state)
        rows.append(row)
    return torch.stack(rows, dim=1), state


def _chunked(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """A doubling scan within chunks, then one product with the decays between all pairs of chunks.

    Decays differ by channel and by state, so that (unlike in SSD) within a chunk no product of two matrices holds
    them; exp(-cumulative sum) would, but overflows. Padded steps have dt = 0: they keep the state.
    """
    batch, length, channels = u.shape
    padding = (-length) % CHUNK
    u, dt, B, C = (F.pad(tensor, (0, 0, 0, padding)) for tensor in (u, dt, B, C))
    chunks = (length + padding) // CHUNK
    log_decay = (dt.unsqueeze(-1) * A).reshape(batch, chunks, CHUNK, channels, -1)
    h = ((dt * u).unsqueeze(-1) * B.unsqueeze(2)).reshape(batch, chunks, CHUNK, channels, -1)
    decay, shift = torch.exp(log_decay), 1
    while shift < CHUNK:
        h = h + F.pad(h[:, :, :-shift], (0, 0, 0, 0, shift, 0)) * decay
        decay = torch.cat([decay[:, :, :shift], decay[:, :, shift:] * decay[:, :, :-shift]], dim=2)
        shift *= 2
    # The state before each chunk: decays[i, j] carries what chunk j - 1 left (j = 0: the initial state) to chunk i.
    total = F.pad(log_decay.sum(dim=2), (0, 0, 0, 0, 1, 0)).permute(0, 2, 3, 1)
    left = torch.cat([state.unsqueeze(1), h[:, :, -1]], dim=1).permute(0, 2, 3, 1)
    before = torch.matmul(pair_decays(total), left.unsqueeze(-1)).squeeze(-1).permute(0, 3, 1, 2)
    h = h + decay * before[:, :-1].unsqueeze(2)
    h = h.reshape(batch, length + padding, channels, -1)
    return torch.matmul(h, C.unsqueeze(-1)).squeeze(-1)[:, :length], before[:, -1]


def pair_decays(log_decay: Tensor) -> Tensor:
    """exp(sum of log_decay over j < k <= i) at [..., i, j] for j <= i, else 0: [..., n] to [..., n, n].

    Each sum is taken for itself: the difference of two running sums would cancel (they reach thousands where decays
    are strong). The mask multiplies, so that every value is finite: calibration would meet an infinite range.
    """
    n = log_decay.shape[-1]
    ones = torch.ones(n, n, dtype=log_decay.dtype, device=log_decay.device)
    sums = torch.cumsum(log_decay.unsqueeze(-1) * torch.tril(ones, -1), dim=-2)
    return torch.exp(sums) * torch.tril(ones)


def _parallel(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    y, last = ParallelScan.apply(u, dt, A, B, C, state)
    return y, last


def _scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence with all axes in place beforehand: see `qcompiler.torch_export.scan` on TensorRT."""

    def body(before: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        u, dt, B, C = now  # [batch, E, 1] twice, [batch, 1, N], [batch, N, 1]
        after = torch.exp(dt * A) * before + dt * u * B
        return after, torch.matmul(after, C)

    last, y = scan(body, state, (u.unsqueeze(-1), dt.unsqueeze(-1), B.unsqueeze(2), C.unsqueeze(-1)))
    return y.squeeze(-1), last


FORMS: dict[str, Scan] = {"sequential": _sequential, "scan": _scan, "chunked": _chunked, "parallel": _parallel}
