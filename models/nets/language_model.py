"""A language model around state-space mixers: embedding, pre-norm residual layers, norm, tied head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.nets.norms import RMSNorm
from models.nets.states import LayerState


class MixerLayer(nn.Module):
    """x + mixer(norm(x))."""

    def __init__(self, width: int, mixer: nn.Module, dropout: float) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.mixer = mixer
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, state: LayerState | None, form: str) -> tuple[Tensor, LayerState]:
        y, state = self.mixer(self.norm(x), state, form)
        return x + self.dropout(y), state


class StateSpaceLM(nn.Module):
    """Token ids [batch, T] to logits [batch, T, vocabulary], with a state a layer.

    Attributes:
        form: How the scan over time is computed where `forward` is not told: a key of FORMS of the mixer's scan.
    """

    def __init__(
        self, vocabulary: int, width: int, layers: int, mixer: Callable[[], nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(MixerLayer(width, mixer(), dropout) for _ in range(layers))
        self.norm_f = RMSNorm(width)
        self.form = "chunked"
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(
        self, input_ids: Tensor, states: Sequence[LayerState] | None = None, form: str | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        x = self.dropout(self.embedding(input_ids))
        after = []
        for i, layer in enumerate(self.layers):
            x, state = layer(x, LayerState(*states[i]) if states is not None else None, form or self.form)
            after.append(state)
        return F.linear(self.norm_f(x), self.embedding.weight), after

    def step(self, input_ids: Tensor, states: Sequence[LayerState]) -> tuple[Tensor, list[LayerState]]:
        """One token a row, [batch, 1] or [batch], to logits [batch, 1, vocabulary] or [batch, vocabulary]."""
        single = input_ids.dim() == 1
        logits, after = self(input_ids.unsqueeze(1) if single else input_ids, states, "sequential")
        return (logits.squeeze(1) if single else logits), after

    def initial_states(self, batch: int, device: torch.device | str = "cpu") -> list[LayerState]:
        """Zeros: what `forward` starts from where it is given none."""
        return [layer.mixer.initial_state(batch, device) for layer in self.layers]
