"""A Swin transformer for 32x32 pictures (arXiv 2103.14030): attention in shifted windows, maps coarser by stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.drop_path import drop_path
from models.nets.windows import into_windows, out_of_windows, relative_index, shifted_mask


@dataclass(frozen=True)
class SwinConfig:
    """Sizes. 2.6 M parameters by default: maps of 16x16, 8x8 and 4x4 tokens, 64, 128 and 256 wide.

    Attributes:
        depths: Blocks of each stage; every second one is shifted, where a map is larger than a window.
        num_heads: Of each stage.
    """

    image_size: int = 32
    patch_size: int = 2
    hidden_size: int = 64
    depths: tuple[int, ...] = (2, 4, 2)
    num_heads: tuple[int, ...] = (2, 4, 8)
    window_size: int = 4
    mlp_ratio: int = 4
    num_classes: int = 10
    drop_path: float = 0.0


class WindowAttention(nn.Module):
    """Self-attention inside windows [batch * windows, N, C], a learned bias for each offset and head on its scores."""

    def __init__(self, width: int, heads: int, window: int, mask: Tensor | None) -> None:
        super().__init__()
        self.heads, self.tokens = heads, window * window
        self.qkv, self.o_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.position_bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        self.register_buffer("index", relative_index(window).flatten(), persistent=False)
        self.register_buffer("mask", None if mask is None else mask[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = self.tokens, x.shape[-1]
        qkv = self.qkv(x).reshape(-1, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = torch.matmul(q * (1.0 / math.sqrt(width // self.heads)), k.transpose(-1, -2))
        bias = self.position_bias[self.index].reshape(tokens, tokens, self.heads).permute(2, 0, 1)
        scores = scores + bias
        if self.mask is not None:
            by_window = scores.reshape(-1, len(self.mask), self.heads, tokens, tokens) + self.mask
            scores = by_window.reshape(-1, self.heads, tokens, tokens)
        context = torch.matmul(torch.softmax(scores.float(), dim=-1).to(v.dtype), v)
        return self.o_proj(context.transpose(1, 2).reshape(-1, tokens, width))


class Block(nn.Module):
    """Window attention and MLP, each behind its norm and added to the map [batch, size, size, C]."""

    def __init__(self, width: int, size: int, heads: int, shifted: bool, drop: float, config: SwinConfig) -> None:
        super().__init__()
        self.window = config.window_size
        self.size, self.drop = size, drop
        self.shift = self.window // 2 if shifted and size > self.window else 0
        mask = shifted_mask(size, self.window, self.shift) if self.shift else None
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, self.window, mask)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.mlp_ratio * width)
        self.fc2 = nn.Linear(config.mlp_ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + drop_path(self._attend(self.norm1(x)), self.drop, self.training)
        return x + drop_path(self.fc2(F.gelu(self.fc1(self.norm2(x)))), self.drop, self.training)

    def _attend(self, x: Tensor) -> Tensor:
        shift = self.shift
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        x = out_of_windows(self.attention(into_windows(x, self.window)), self.window, self.size)
        return torch.roll(x, (shift, shift), (1, 2)) if shift else x


class PatchMerging(nn.Module):
    """Four neighbours become one token: [batch, H, W, C] to [batch, H / 2, W / 2, 2 C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class Swin(nn.Module):
    """Normalized pictures [batch, 3, 32, 32] to logits [batch, classes], read from the mean of the last map."""

    def __init__(self, config: SwinConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SwinConfig()
        width, size = c.hidden_size, c.image_size // c.patch_size
        self.patch_embed = nn.Conv2d(3, width, c.patch_size, stride=c.patch_size)
        self.patch_norm = nn.LayerNorm(width)
        blocks, stages = sum(c.depths), []
        for stage, (depth, heads) in enumerate(zip(c.depths, c.num_heads, strict=True)):
            layers: list[nn.Module] = []
            if stage:
                layers.append(PatchMerging(width))
                width, size = 2 * width, size // 2
            first = sum(c.depths[:stage])
            drops = [c.drop_path * (first + i) / max(blocks - 1, 1) for i in range(depth)]
            layers += [Block(width, size, heads, i % 2 == 1, drop, c) for i, drop in enumerate(drops)]
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, c.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patch_norm(self.patch_embed(pixel_values).permute(0, 2, 3, 1))
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))
