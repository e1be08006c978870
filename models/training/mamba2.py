"""Trains the Mamba-2 language model: `python -m models.training.mamba2 --data FOLDER --out FOLDER`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.nets.mamba2 import Mamba2, Mamba2Config
from models.training.language import train_text
from models.training.run import Run, parse

CONFIG = Mamba2Config(dropout=0.2)
SMOKE = replace(CONFIG, d_model=64, n_layer=2, head_dim=32, d_state=16, dropout=0.0)


def train(data: Path | None, out: Path, smoke: bool = False, minutes: float = 9.0, seed: int = 0) -> dict[str, Any]:
    """The whole recipe; the card."""
    return run(Run(data, out, smoke=smoke, minutes=minutes, seed=seed))


def run(options: Run) -> dict[str, Any]:
    """The recipe as the options say; the card."""
    return train_text("mamba2", lambda smoke: Mamba2(SMOKE if smoke else CONFIG), options)


if __name__ == "__main__":
    run(parse(__doc__))
