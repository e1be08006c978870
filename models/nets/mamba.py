"""A causal language model of Mamba-1 blocks (arXiv 2312.00752), with its state carried between calls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.language_model import StateSpaceLM
from models.nets.selective_scan import selective_scan
from models.nets.states import LayerState, causal_conv


@dataclass(frozen=True)
class MambaConfig:
    """Sizes; the inner width is expand * d_model. 5.1 M parameters by default."""

    vocab_size: int = 4096
    d_model: int = 320
    n_layer: int = 6
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int = 20
    dropout: float = 0.0


class MambaMixer(nn.Module):
    """in_proj, causal depthwise convolution, SiLU, selective scan, gate by SiLU(z), out_proj."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.config = config
        inner = config.expand * config.d_model
        self.in_proj = nn.Linear(config.d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, config.d_conv, groups=inner)
        self.x_proj = nn.Linear(inner, config.dt_rank + 2 * config.d_state, bias=False)
        self.dt_proj = nn.Linear(config.dt_rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, config.d_state + 1).repeat(inner, 1)))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, config.d_model, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(config.dt_rank**-0.5), config.dt_rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(initial_dt_bias(inner))
            self.out_proj.weight.div_(math.sqrt(config.n_layer))

    def forward(self, x: Tensor, state: LayerState | None, form: str) -> tuple[Tensor, LayerState]:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        conv_state, ssm_state = (None, None) if state is None else state
        u, conv_state = causal_conv(u, conv_state, self.conv1d.weight, self.conv1d.bias, self.training)
        u = F.silu(u)
        sizes = [self.config.dt_rank, self.config.d_state, self.config.d_state]
        dt, B, C = torch.split(self.x_proj(u), sizes, dim=-1)
        dt = F.softplus(self.dt_proj(dt).float())
        y, ssm_state = selective_scan(u, dt, -torch.exp(self.A_log.float()), B, C, self.D, ssm_state, form)
        return self.out_proj(y * F.silu(z)), LayerState(conv_state, ssm_state)

    def initial_state(self, batch: int, device: torch.device | str = "cpu") -> LayerState:
        """Zeros."""
        inner = self.config.expand * self.config.d_model
        conv_state = torch.zeros(batch, inner, self.config.d_conv - 1, device=device)
        return LayerState(conv_state, torch.zeros(batch, inner, self.config.d_state, device=device))


class Mamba(StateSpaceLM):
    """The language model."""

    def __init__(self, config: MambaConfig | None = None) -> None:
        c = config or MambaConfig()
        super().__init__(c.vocab_size, c.d_model, c.n_layer, lambda: MambaMixer(c), c.dropout)
        self.config = c


def initial_dt_bias(size: int, low: float = 1e-3, high: float = 1e-1) -> Tensor:
    """The inverse of softplus at steps drawn log-uniformly from low..high, as in the paper (section 3.6)."""
    dt = torch.exp(torch.rand(size) * (math.log(high) - math.log(low)) + math.log(low))
    return dt + torch.log(-torch.expm1(-dt))
