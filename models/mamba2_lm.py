"""mamba2-lm: the Mamba-2 (state-space duality) sibling of mamba-lm, on the same text."""

from __future__ import annotations

from models.state_space_lm import state_space_entry
from models.trained import TrainedWeights

MODEL = state_space_entry("mamba2-lm", TrainedWeights("mamba2"), "causal Mamba-2 (SSD) language model, carried state")
