"""A pre-norm vision transformer for 32x32 pictures (arXiv 2010.11929), trained on CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.attention import AttentionOptions, attend, gate_heads, head_gate
from models.nets.drop_path import drop_path


@dataclass(frozen=True)
class ViTConfig:
    """Sizes. 5.6 M parameters by default: 64 patches and a class token."""

    image_size: int = 32
    patch_size: int = 4
    hidden_size: int = 256
    mlp_size: int = 1024
    num_layers: int = 7
    num_heads: int = 8
    num_classes: int = 10
    drop_path: float = 0.0
    attention: AttentionOptions = field(default_factory=AttentionOptions)


class Attention(nn.Module):
    """Self-attention over all tokens."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.options = config.num_heads, config.attention
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))
        self.gate = head_gate(width, self.heads, self.options)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            p(x).reshape(batch, length, self.heads, -1).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        context = gate_heads(attend(q, k, v, None, self.options), self.gate, x)
        return self.o_proj(context.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    """fc2(gelu(fc1(x)))."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.mlp_size)
        self.fc2 = nn.Linear(config.mlp_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each behind its norm and added to the stream; in training a branch is dropped for a picture.

    Attributes:
        drop: The share of pictures that lose a branch.
    """

    def __init__(self, config: ViTConfig, drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size)
        self.attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size)
        self.mlp = MLP(config)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        x = x + drop_path(self.attention(self.norm1(x)), self.drop, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.drop, self.training)


class ViT(nn.Module):
    """Normalized pictures [batch, 3, 32, 32] to logits [batch, classes], read from the class token."""

    def __init__(self, config: ViTConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ViTConfig()
        patches = (c.image_size // c.patch_size) ** 2
        self.patch_embed = nn.Conv2d(3, c.hidden_size, c.patch_size, stride=c.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.hidden_size))
        self.position_embed = nn.Parameter(torch.randn(1, patches + 1, c.hidden_size) * 0.02)
        depths = [c.drop_path * i / max(c.num_layers - 1, 1) for i in range(c.num_layers)]
        self.layers = nn.ModuleList(Block(c, drop) for drop in depths)
        self.norm = nn.LayerNorm(c.hidden_size)
        self.head = nn.Linear(c.hidden_size, c.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patch_embed(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1) + self.position_embed
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])
