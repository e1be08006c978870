"""Trains the Mamba-1 language model: `python -m models.training.mamba --data FOLDER --out FOLDER`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.nets.mamba import Mamba, MambaConfig
from models.nets.selective_scan import FORMS
from models.training.language import train_text
from models.training.run import Run, parse

CONFIG = MambaConfig(dropout=0.2)
SMOKE = replace(CONFIG, d_model=48, n_layer=2, dt_rank=4, dropout=0.0)


def train(data: Path | None, out: Path, smoke: bool = False, minutes: float = 9.0, seed: int = 0) -> dict[str, Any]:
    """The whole recipe; the card."""
    return run(Run(data, out, smoke=smoke, minutes=minutes, seed=seed))


def run(options: Run) -> dict[str, Any]:
    """The recipe as the options say; the card."""
    return train_text("mamba", _make, options)


def _make(smoke: bool) -> nn.Module:
    """The model with the scan for training, which the compiler leaves alone: its loops work in place."""
    FORMS.setdefault("training", torch.compiler.disable(FORMS["parallel"]))
    model = Mamba(SMOKE if smoke else CONFIG)
    model.form = "training"
    return model


if __name__ == "__main__":
    run(parse(__doc__))
