"""Trains the vision transformer on CIFAR-10: `python -m models.training.vit --data FOLDER --out FOLDER`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.nets.vit import ViT, ViTConfig
from models.training.pictures import SMOKE, PictureRecipe, train_classifier
from models.training.run import Run, parse, seed_everything

CONFIG = ViTConfig(drop_path=0.1)
SMOKE_CONFIG = replace(CONFIG, hidden_size=64, mlp_size=128, num_layers=2, num_heads=4, drop_path=0.0)


def train(data: Path | None, out: Path, smoke: bool = False, minutes: float = 9.0, seed: int = 0) -> dict[str, Any]:
    """The whole recipe; the card."""
    return run(Run(data, out, smoke=smoke, minutes=minutes, seed=seed))


def run(options: Run) -> dict[str, Any]:
    """The recipe as the options say; the card."""
    recipe = options.recipe(SMOKE if options.smoke else PictureRecipe())
    seed_everything(options)
    return train_classifier("vit", ViT(SMOKE_CONFIG if options.smoke else CONFIG), recipe, options)


if __name__ == "__main__":
    run(parse(__doc__))
