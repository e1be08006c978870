"""Attention with the options of "Quantizable Transformers" (arXiv 2306.12929): clipped softmax and gated heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GateKind = Literal["none", "linear", "mlp"]


@dataclass(frozen=True)
class AttentionOptions:
    """What departs from plain attention; the defaults are plain attention.

    Attributes:
        clip: Whether probabilities p become clip((eta - gamma) * p + gamma, 0, 1).
        gamma: Lower stretch, at most 0, a literal: for a length T trained at, -alpha / T of that T.
        eta: Upper stretch, at least 1.
        gate: One number in 0..1 for each token and head, from that head's slice of the attention's input:
            "linear" is Linear(d_head, 1), "mlp" Linear(d_head, d_head / 4), ReLU, Linear(., 1).
        gate_open: Gate at the start of training where the gate's weights are zero (its bias is the logit of it).
    """

    clip: bool = False
    gamma: float = 0.0
    eta: float = 1.0
    gate: GateKind = "none"
    gate_open: float = 0.5

    def __post_init__(self) -> None:
        if self.gamma > 0 or self.eta < 1:
            raise ValueError(f"clipped softmax needs gamma <= 0 and eta >= 1, not {self.gamma} and {self.eta}")
        if not 0 < self.gate_open < 1:
            raise ValueError(f"gate_open is a probability between 0 and 1, not {self.gate_open}")


def probabilities(scores: Tensor, options: AttentionOptions) -> Tensor:
    """Softmax over the last axis in float32, stretched and clipped where asked for, in the type of `scores`.

    In float16, (eta - gamma) * p + gamma would cancel around the threshold: hence float32 up to the clip.
    """
    p = torch.softmax(scores.float(), dim=-1)
    if options.clip:
        p = torch.clamp((options.eta - options.gamma) * p + options.gamma, 0.0, 1.0)
    return p.to(scores.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: AttentionOptions) -> Tensor:
    """softmax(q k^T / sqrt(d)) v on [B, heads, T, d]; `mask` is true where a query may look at a key."""
    scores = torch.matmul(q, k.transpose(-1, -2)) * (1.0 / math.sqrt(q.shape[-1]))
    if mask is not None:
        scores = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min)
    return torch.matmul(probabilities(scores, options).to(v.dtype), v)


def block_diagonal(blocks: Tensor) -> Tensor:
    """[heads, out, in] to the matrix [heads * out, heads * in] with the blocks on its diagonal."""
    heads, rows, columns = blocks.shape
    eye = torch.eye(heads, dtype=blocks.dtype, device=blocks.device)
    return (blocks[:, :, None, :] * eye[:, None, :, None]).reshape(heads * rows, heads * columns)


class HeadGate(nn.Module):
    """Gates [B, T, heads] from the attention's input [B, T, d]; each head sees its own slice of d.

    The heads' small linears are one block-diagonal linear, so that the exported graph has one Gemm and not one a head.
    """

    def __init__(self, width: int, heads: int, options: AttentionOptions) -> None:
        super().__init__()
        size = width // heads
        hidden = size // 4 if options.gate == "mlp" else 0
        if hidden:
            self.hidden_weight = nn.Parameter(torch.randn(heads, hidden, size) / math.sqrt(size))
            self.hidden_bias = nn.Parameter(torch.zeros(heads * hidden))
        else:
            self.register_parameter("hidden_weight", None)
            self.register_parameter("hidden_bias", None)
        last = hidden or size
        self.weight = nn.Parameter(torch.randn(heads, 1, last) * (0.02 / math.sqrt(last)))
        self.bias = nn.Parameter(torch.full((heads,), math.log(options.gate_open / (1.0 - options.gate_open))))

    def forward(self, x: Tensor) -> Tensor:
        if self.hidden_weight is not None:
            x = F.relu(F.linear(x, block_diagonal(self.hidden_weight), self.hidden_bias))
        return torch.sigmoid(F.linear(x, block_diagonal(self.weight), self.bias))


def gate_heads(context: Tensor, gate: HeadGate | None, x: Tensor) -> Tensor:
    """Context [B, heads, T, d_head] times its gates; unchanged where there is no gate."""
    if gate is None:
        return context
    return context * gate(x).transpose(1, 2).unsqueeze(-1).to(context.dtype)


def head_gate(width: int, heads: int, options: AttentionOptions) -> HeadGate | None:
    """The gate that `options` asks for."""
    return None if options.gate == "none" else HeadGate(width, heads, options)
