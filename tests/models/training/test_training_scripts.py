"""Every script trains a small model on the CPU, lowers its loss, and writes weights that give the card's score."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

from models.nets.trained import load_trained
from models.training.data import load_pictures, load_text
from models.training.language import score_tokens
from models.training.pictures import top1
from models.training.run import Run, cosine, parse
from models.zoo import MissingAsset

pytest.importorskip("safetensors")


@pytest.fixture(autouse=True)
def same_precision_after() -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


def test_missing_weights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingAsset, match=r"vit\.card\.json is missing: python -m models train vit"):
        load_trained("vit", tmp_path)


@pytest.mark.parametrize("name", ["decoder", "mamba", "mamba2"])
def test_language_models(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    script = import_module(f"models.training.{name}")
    card = script.train(None, tmp_path, smoke=True)
    curve = json.loads((tmp_path / f"{name}.curve.json").read_text())
    assert curve[-1]["val"] < curve[0]["val"] < math.log(4096)
    assert card["ended"] == "all steps done" and card["smoke"] is True
    assert json.loads((tmp_path / f"{name}.card.json").read_text()) == card
    assert all(tensor.dtype == torch.float16 for tensor in load_file(tmp_path / f"{name}.safetensors").values())
    model = load_trained(card["name"], tmp_path)
    scores = score_tokens(model, load_text(None, stand_in=True)["test_novel"], card["recipe"]["context"])
    assert scores["nats_per_token"] == pytest.approx(card["scores"]["test_novel"]["nats_per_token"], abs=1e-4)


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_classifiers(name: str, tmp_path: Path) -> None:
    script = import_module(f"models.training.{name}")
    card = script.run(Run(None, tmp_path, smoke=True, steps=24))
    curve = json.loads((tmp_path / f"{name}.curve.json").read_text())
    assert card["scores"]["top1"] > 0.2  # a tenth is chance
    assert curve[-1]["step"] == card["steps_done"] == 24
    model = load_trained(card["name"], tmp_path)
    _, test = load_pictures(None, stand_in=True)
    images, labels = torch.from_numpy(test.images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(test.labels)
    assert top1(model, images, labels) == card["scores"]["top1"]


def test_time_over_stops_scores_and_says_so(tmp_path: Path) -> None:
    script = import_module("models.training.decoder")
    card = script.run(Run(None, tmp_path, smoke=True, minutes=0.0, steps=500))
    assert card["steps_done"] < 500
    assert card["ended"].startswith("out of time")


def test_score_covers_every_token_but_the_first() -> None:
    class Uniform(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, None]:
            return torch.zeros(*ids.shape, 4096), None

    tokens = load_text(None, stand_in=True)["val"]
    scores = score_tokens(Uniform(), tokens, 64)
    assert scores["tokens"] == len(tokens.ids) - 1
    assert scores["perplexity"] == pytest.approx(4096, rel=1e-4)
    assert scores["bits_per_byte"] == pytest.approx(12 * scores["tokens"] / tokens.bytes, rel=1e-4)


def test_overrides_reach_the_recipe(tmp_path: Path) -> None:
    from models.training.language import TextRecipe

    options = parse(None, ["--out", str(tmp_path), "--smoke", "--set", "lr=0.5", "--steps", "7"])
    assert options.recipe(TextRecipe()).lr == 0.5 and options.recipe(TextRecipe()).steps == 7
    with pytest.raises(ValueError, match="no 'rate'"):
        Run(None, tmp_path, overrides={"rate": 1.0}).recipe(TextRecipe())
    with pytest.raises(SystemExit):
        parse(None, ["--out", str(tmp_path), "--set", "lr=fast"])


def test_schedule_rises_then_falls() -> None:
    factors = [cosine(i, 100, 10, 0.1) for i in range(100)]
    assert factors[9] == 1.0 and max(factors) == 1.0
    assert factors[:10] == sorted(factors[:10]) and factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.1, abs=0.01)
