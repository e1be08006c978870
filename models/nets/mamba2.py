"""A causal language model of Mamba-2 blocks (SSD, arXiv 2405.21060), with its state carried between calls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.language_model import StateSpaceLM
from models.nets.mamba import initial_dt_bias
from models.nets.norms import RMSNorm
from models.nets.ssd import ssd
from models.nets.states import LayerState, causal_conv


@dataclass(frozen=True)
class Mamba2Config:
    """Sizes; the inner width, expand * d_model, is split in heads of head_dim. 5.3 M parameters by default."""

    vocab_size: int = 4096
    d_model: int = 320
    n_layer: int = 6
    d_state: int = 64
    d_conv: int = 4
    expand: int = 2
    head_dim: int = 64
    dropout: float = 0.0

    @property
    def inner(self) -> int:
        """Channels that the heads share."""
        return self.expand * self.d_model

    @property
    def heads(self) -> int:
        """Number of heads."""
        return self.inner // self.head_dim


class Mamba2Mixer(nn.Module):
    """in_proj gives z, the convolved (x, B, C) and dt at once; SSD, norm of y * SiLU(z), out_proj."""

    def __init__(self, config: Mamba2Config) -> None:
        super().__init__()
        self.config = config
        channels = config.inner + 2 * config.d_state
        self.in_proj = nn.Linear(config.d_model, config.inner + channels + config.heads, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, config.d_conv, groups=channels)
        self.dt_bias = nn.Parameter(initial_dt_bias(config.heads))
        self.A_log = nn.Parameter(torch.log(torch.empty(config.heads).uniform_(1.0, 16.0)))
        self.D = nn.Parameter(torch.ones(config.heads))
        self.norm = RMSNorm(config.inner)
        self.out_proj = nn.Linear(config.inner, config.d_model, bias=False)
        with torch.no_grad():
            self.out_proj.weight.div_(math.sqrt(config.n_layer))

    def forward(self, x: Tensor, state: LayerState | None, form: str) -> tuple[Tensor, LayerState]:
        c = self.config
        z, mixed, dt = torch.split(self.in_proj(x), [c.inner, c.inner + 2 * c.d_state, c.heads], dim=-1)
        conv_state, ssm_state = (None, None) if state is None else state
        mixed, conv_state = causal_conv(mixed, conv_state, self.conv1d.weight, self.conv1d.bias, self.training)
        u, B, C = torch.split(F.silu(mixed), [c.inner, c.d_state, c.d_state], dim=-1)
        dt = F.softplus(dt.float() + self.dt_bias)
        u = u.reshape(*u.shape[:2], c.heads, c.head_dim)
        y, ssm_state = ssd(u, dt, -torch.exp(self.A_log.float()), B, C, self.D, ssm_state, form)
        y = self.norm(y.reshape(*y.shape[:2], c.inner) * F.silu(z))
        return self.out_proj(y), LayerState(conv_state, ssm_state)

    def initial_state(self, batch: int, device: torch.device | str = "cpu") -> LayerState:
        """Zeros."""
        c = self.config
        conv_state = torch.zeros(batch, c.inner + 2 * c.d_state, c.d_conv - 1, device=device)
        return LayerState(conv_state, torch.zeros(batch, c.heads, c.head_dim, c.d_state, device=device))


class Mamba2(StateSpaceLM):
    """The language model."""

    def __init__(self, config: Mamba2Config | None = None) -> None:
        c = config or Mamba2Config()
        super().__init__(c.vocab_size, c.d_model, c.n_layer, lambda: Mamba2Mixer(c), c.dropout)
        self.config = c
