"""The trained entries' modules with their weights, from NAME.safetensors and NAME.card.json as training wrote them."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from torch import nn

from models.nets.attention import AttentionOptions
from models.zoo import MissingAsset

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def load_trained(name: str, folder: Path = WEIGHTS) -> nn.Module:
    """The module "vit", "swin", "decoder", "mamba" or "mamba2" in evaluation mode, its float16 weights as float32."""
    from safetensors.torch import load_file

    card_file, weights = folder / f"{name}.card.json", folder / f"{name}.safetensors"
    for file in (card_file, weights):
        if not file.is_file():
            raise MissingAsset(f"{file} is missing: python -m models train {name} makes it")
    card: dict[str, Any] = json.loads(card_file.read_text(encoding="utf-8"))
    path, _, class_name = card["module"].partition(":")
    module = import_module(path)
    config: dict[str, Any] = dict(card["config"])
    if "attention" in config:
        config["attention"] = AttentionOptions(**config["attention"])
    config_class = getattr(module, f"{class_name}Config")
    known = get_type_hints(config_class)
    if unknown := sorted(set(config) - set(known)):
        raise MissingAsset(f"{card_file} has settings that {config_class.__name__} lacks: {', '.join(unknown)}")
    model: nn.Module = getattr(module, class_name)(config_class(**config))
    model.load_state_dict({key: tensor.float() for key, tensor in load_file(weights).items()})
    return model.eval()
