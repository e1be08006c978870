"""Trains the LLaMA-style decoder: `python -m models.training.decoder --data FOLDER --out FOLDER`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.nets.decoder import Decoder, DecoderConfig
from models.training.language import train_text
from models.training.run import Run, parse

CONFIG = DecoderConfig(dropout=0.2)
SMOKE = replace(CONFIG, hidden_size=64, intermediate_size=128, num_hidden_layers=2, dropout=0.0)


def train(data: Path | None, out: Path, smoke: bool = False, minutes: float = 9.0, seed: int = 0) -> dict[str, Any]:
    """The whole recipe; the card."""
    return run(Run(data, out, smoke=smoke, minutes=minutes, seed=seed))


def run(options: Run) -> dict[str, Any]:
    """The recipe as the options say; the card."""
    return train_text("decoder", lambda smoke: Decoder(SMOKE if smoke else CONFIG), options)


if __name__ == "__main__":
    run(parse(__doc__))
