"""Vision transformers as their authors write them, in torch, small, with weights from a seed.

ViT (arXiv:2010.11929), DeiT with its two tokens (arXiv:2012.12877), Swin (arXiv:2103.14030) and CaiT's LayerScale
(arXiv:2103.17239); the forms follow timm's, whose exports users bring.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS = 32, 2


class Attention(nn.Module):  # type: ignore[misc]
    """One linear for q, k and v, split by reshaping; optionally with a position bias and a window mask."""

    def __init__(self, width: int, heads: int, window: int = 0, fused: bool = False) -> None:
        super().__init__()
        self.heads, self.window, self.fused = heads, window, fused
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if window:
            self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
            self.register_buffer("index", relative_index(window), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            out = F.scaled_dot_product_attention(q, k, v)
            return self.proj(out.transpose(1, 2).reshape(batch, length, width))
        scores = q * (width // self.heads) ** -0.5 @ k.transpose(-2, -1)
        if self.window:
            bias = self.table[self.index.reshape(-1)].reshape(length, length, self.heads).permute(2, 0, 1)
            scores = scores + bias.unsqueeze(0)
        if mask is not None:
            count = mask.shape[0]
            scores = scores.reshape(batch // count, count, self.heads, length, length) + mask[None, :, None]
            scores = scores.reshape(-1, self.heads, length, length)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):  # type: ignore[misc]
    """Pre-LN attention and MLP, each behind a LayerScale where asked for."""

    def __init__(self, attention: Attention, width: int, scaled: bool) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), attention
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.gammas = nn.ParameterList(torch.rand(width) for _ in range(2)) if scaled else None

    def mlp(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def forward(self, x: Tensor) -> Tensor:
        one, other = (1.0, 1.0) if self.gammas is None else self.gammas
        x = x + one * self.attention(self.norm1(x))
        return x + other * self.mlp(x)


class VisionTransformer(nn.Module):  # type: ignore[misc]
    """[n, 3, 32, 32] to logits.

    Args:
        tokens: 0 pools the patches, 1 is ViT, 2 is DeiT: the mean of two heads.
        table: Side of the learned grid of positions; resized to the patches' grid in the forward.
        stem: Convolutions with ReLU in place of one patch embedding.
    """

    def __init__(
        self, tokens: int = 1, table: int = 8, layer_scale: bool = False, stem: bool = False, fused: bool = False
    ) -> None:
        super().__init__()
        self.tokens, self.table = tokens, table
        convs = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, WIDTH, 3, 2, 1)]
        self.embed: nn.Module = nn.Sequential(*convs) if stem else nn.Conv2d(3, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.randn(1, tokens, WIDTH)) if tokens else None
        self.positions = nn.Parameter(torch.randn(1, tokens + table**2, WIDTH) * 0.1)
        self.blocks = nn.ModuleList(Block(Attention(WIDTH, HEADS, 0, fused), WIDTH, layer_scale) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 10) for _ in range(max(1, tokens)))

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.embed(pixel_values)
        rows, columns = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        x = x + self.placed(rows, columns)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if not self.tokens:
            logits: Tensor = self.heads[0](x.mean(1))
            return logits
        outs = [head(x[:, place]) for place, head in enumerate(self.heads)]
        return sum(outs[1:], outs[0]) / len(outs)

    def placed(self, rows: int, columns: int) -> Tensor:
        """The table of positions for a grid of patches."""
        if (rows, columns) == (self.table, self.table):
            return self.positions
        apart, grid = self.positions[:, : self.tokens], self.positions[:, self.tokens :]
        grid = grid.reshape(1, self.table, self.table, WIDTH).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([apart, grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)


class SwinBlock(Block):
    """Attention within windows of 4x4 tokens, shifted by 2 in every second block."""

    def __init__(self, width: int, side: int, shift: int, scaled: bool) -> None:
        super().__init__(Attention(width, HEADS, WINDOW), width, scaled)
        self.side, self.shift = side, shift
        self.register_buffer("mask", shift_mask(side, shift) if shift else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        one, other = (1.0, 1.0) if self.gammas is None else self.gammas
        y = self.norm1(x).reshape(batch, self.side, self.side, width)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = windows(y).reshape(-1, WINDOW**2, width)
        y = self.attention(y, self.mask)
        count = self.side // WINDOW
        y = y.reshape(batch, count, count, WINDOW, WINDOW, width).permute(0, 1, 3, 2, 4, 5)
        y = y.reshape(batch, self.side, self.side, width)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + one * y.reshape(batch, length, width)
        return x + other * self.mlp(x)


WINDOW = 4


class Swin(nn.Module):  # type: ignore[misc]
    """Two stages of two blocks, the second with half the side and twice the width; a mean over tokens."""

    def __init__(self, layer_scale: bool = False) -> None:
        super().__init__()
        self.embed, self.first = nn.Conv2d(3, WIDTH, 4, 4), nn.LayerNorm(WIDTH)
        self.stage1 = nn.ModuleList(SwinBlock(WIDTH, 8, shift, layer_scale) for shift in (0, 2))
        self.merged, self.reduction = nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, 2 * WIDTH, bias=False)
        self.stage2 = nn.ModuleList(SwinBlock(2 * WIDTH, 4, 0, layer_scale) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(2 * WIDTH), nn.Linear(2 * WIDTH, 10)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.first(self.embed(pixel_values).flatten(2).transpose(1, 2))
        for block in self.stage1:
            x = block(x)
        grid = x.reshape(x.shape[0], 8, 8, WIDTH)
        corners = [grid[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        x = self.reduction(self.merged(torch.cat(corners, -1).reshape(x.shape[0], 16, 4 * WIDTH)))
        for block in self.stage2:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


def windows(x: Tensor) -> Tensor:
    """[n, side, side, c] to [n * windows, 4, 4, c]."""
    batch, side, _, width = x.shape
    x = x.reshape(batch, side // WINDOW, WINDOW, side // WINDOW, WINDOW, width)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, WINDOW, WINDOW, width)


def relative_index(window: int) -> Tensor:
    """Row of the bias table for each pair of tokens of a window."""
    places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    steps = (places[:, :, None] - places[:, None]).permute(1, 2, 0) + window - 1
    return steps[..., 0] * (2 * window - 1) + steps[..., 1]


def shift_mask(side: int, shift: int) -> Tensor:
    """-100 between tokens that the cyclic shift brought side by side: [windows, 16, 16]."""
    parts = torch.zeros(1, side, side, 1)
    edges = (slice(0, -WINDOW), slice(-WINDOW, -shift), slice(-shift, None))
    for count, (rows, columns) in enumerate((rows, columns) for rows in edges for columns in edges):
        parts[:, rows, columns] = count
    flat = windows(parts).reshape(-1, WINDOW**2)
    return (flat[:, None] != flat[:, :, None]).float() * -100.0
