"""A LLaMA-style decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU, a key-value cache in the open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.attention import AttentionOptions, attend, gate_heads, head_gate
from models.nets.norms import RMSNorm

KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes in the words of LLaMA configurations. 5.6 M parameters by default; the head is the embedding, tied."""

    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    num_key_value_heads: int = 2
    rope_theta: float = 10000.0
    dropout: float = 0.0
    attention: AttentionOptions = field(default_factory=AttentionOptions)

    @property
    def head_dim(self) -> int:
        """Size of a head."""
        return self.hidden_size // self.num_attention_heads


def rotary(position_ids: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin [batch, 1, T, head_dim] for positions [batch, T]; the halves of a head rotate together."""
    exponents = torch.arange(0, head_dim, 2, device=position_ids.device, dtype=torch.float32) / head_dim
    angles = position_ids.unsqueeze(-1).float() * torch.pow(torch.full_like(exponents, theta), -exponents)
    angles = torch.cat([angles, angles], dim=-1).unsqueeze(1)
    return torch.cos(angles), torch.sin(angles)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates [batch, heads, T, head_dim] in float32; the type of `x` is kept."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention; several query heads share a key and a value head."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width, size = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(width, config.num_attention_heads * size, bias=False)
        self.k_proj = nn.Linear(width, config.num_key_value_heads * size, bias=False)
        self.v_proj = nn.Linear(width, config.num_key_value_heads * size, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * size, width, bias=False)
        self.gate = head_gate(width, config.num_attention_heads, config.attention)

    def forward(
        self, x: Tensor, position: tuple[Tensor, Tensor], mask: Tensor, past: KeyValue | None
    ) -> tuple[Tensor, KeyValue]:
        batch, length, _ = x.shape
        size, groups = self.config.head_dim, self.config.num_key_value_heads
        q, k, v = (
            p(x).reshape(batch, length, -1, size).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, *position), rotate(k, *position)
        if past is not None:
            k, v = torch.cat([past[0].to(k.dtype), k], dim=2), torch.cat([past[1].to(v.dtype), v], dim=2)
        # Query heads of one group stand next to each other: [batch, groups, heads / groups, T, size].
        grouped = q.reshape(batch, groups, -1, length, size)
        context = attend(grouped, k.unsqueeze(2), v.unsqueeze(2), mask, self.config.attention)
        context = gate_heads(context.reshape(batch, -1, length, size), self.gate, x)
        return self.o_proj(context.transpose(1, 2).reshape(batch, length, -1)), (k, v)


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Attention and MLP, each behind its norm and added to the stream."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, position: tuple[Tensor, Tensor], mask: Tensor, past: KeyValue | None
    ) -> tuple[Tensor, KeyValue]:
        y, present = self.self_attn(self.input_layernorm(x), position, mask, past)
        x = x + self.dropout(y)
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x))), present


class Decoder(nn.Module):
    """Token ids [batch, T] to logits [batch, T, vocabulary] and a (key, value) pair a layer."""

    def __init__(self, config: DecoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or DecoderConfig()
        self.embed_tokens = nn.Embedding(self.config.vocab_size, self.config.hidden_size)
        self.dropout = nn.Dropout(self.config.dropout)
        self.layers = nn.ModuleList(DecoderLayer(self.config) for _ in range(self.config.num_hidden_layers))
        self.norm = RMSNorm(self.config.hidden_size)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and ".gate." not in name:
                into_stream = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = 0.02 / math.sqrt(2 * self.config.num_hidden_layers) if into_stream else 0.02
                nn.init.normal_(parameter, std=std)

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: Sequence[KeyValue] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Prefill without, cached decoding with `past_key_values`.

        Args:
            past_key_values: A layer's keys (after rotation) and values, each [batch, kv_heads, T_past, head_dim].
            attention_mask: [batch, T_past + T], 0 where a key is padding; all keys count where it is missing.
            position_ids: [batch, T]; T_past, T_past + 1 ... where missing.
        """
        batch, length = input_ids.shape
        before = 0 if past_key_values is None else past_key_values[0][0].shape[2]
        rows = torch.arange(length, device=input_ids.device) + before
        columns = torch.arange(before + length, device=input_ids.device)
        mask = (columns[None, :] <= rows[:, None])[None, None, None]
        if attention_mask is not None:
            mask = mask & (attention_mask[:, None, None, None, :] > 0)
        if position_ids is None:
            position_ids = rows[None, :].expand(batch, -1)
        position = rotary(position_ids, self.config.head_dim, self.config.rope_theta)
        x, present = self.dropout(self.embed_tokens(input_ids)), []
        for i, layer in enumerate(self.layers):
            x, pair = layer(x, position, mask, None if past_key_values is None else past_key_values[i])
            present.append(pair)
        return F.linear(self.norm(x), self.embed_tokens.weight), present
