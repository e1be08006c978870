"""mamba-lm: a causal Mamba-1 language model with a state carried from call to call, trained on prose."""

from __future__ import annotations

from models.state_space_lm import state_space_entry
from models.trained import TrainedWeights

MODEL = state_space_entry("mamba-lm", TrainedWeights("mamba"), "causal Mamba-1 language model with carried state")
