"""The committed weights and their cards, and what an export does without torch."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import models
from models import trained
from models.trained import TrainedWeights
from models.zoo import MissingAsset
from qcompiler.errors import UsageError

CLASSIFIERS = ("vit-cifar10", "swin-cifar10")
ENTRIES = (*CLASSIFIERS, "decoder-lm", "mamba-lm", "mamba2-lm")


@pytest.mark.parametrize("name", ENTRIES)
def test_weights_are_those_of_their_card(name: str) -> None:
    weights = models.load(name).trained
    assert weights is not None
    weights.fetch()
    card, file = weights.card(), weights.folder / f"{weights.name}.safetensors"
    assert file.stat().st_size == card["weights"]["bytes"] <= 12 << 20
    size = int.from_bytes(file.read_bytes()[:8], "little")
    header: dict[str, Any] = json.loads(file.read_bytes()[8 : 8 + size])
    tensors = [facts for key, facts in header.items() if key != "__metadata__"]
    assert {facts["dtype"] for facts in tensors} == {"F16"}
    assert not card["smoke"] and "H100" in card["device"]


@pytest.mark.parametrize("name", ENTRIES)
def test_the_training_is_on_the_card(name: str) -> None:
    model = models.load(name)
    assert model.trained is not None and model.training == f"models.training.{model.trained.name}"
    assert find_spec(model.training) is not None
    section = trained.training_section(model.trained)
    text = "\n".join(trained.training_lines(section))
    last = section["curve"][-1]
    for part in (section["device"], f"{section['parameters']:,} parameters", f"lr {section['recipe']['lr']:g}",
                 f"| {last['step']} | {last['train']:.3f} |", "`models.training.", "▁"):  # fmt: skip
        assert part in text
    assert 6 < sum(line.startswith("| ") and line[2].isdigit() for line in text.splitlines()) < 12
    classifier = name in CLASSIFIERS
    assert ("torch's score, test: top1 0." in text) == classifier and ("bits_per_byte" in text) != classifier


def test_bars() -> None:
    assert trained.bars([0.0, 7.0, 3.0]) == "▁█▄" and trained.bars([2.0, 2.0]) == "▁▁"
    assert len(trained.bars(range(1000))) == 40


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    for file in trained.WEIGHTS.glob("mamba.*"):
        shutil.copy(file, tmp_path)
    weights = TrainedWeights("mamba", tmp_path)
    weights.fetch()
    file = tmp_path / "mamba.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(MissingAsset, match=r"mamba\.safetensors is missing or not the one of its card"):
        weights.fetch()
    (tmp_path / "mamba.card.json").unlink()
    with pytest.raises(MissingAsset, match=r"mamba\.card\.json is missing"):
        weights.describe()


def test_without_torch_an_export_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPILE_CACHE", str(tmp_path))
    hidden = "qcompiler.torch_export.requirement.find_spec"
    monkeypatch.setattr(hidden, lambda name: None if name == "torch" else find_spec(name))
    for name in ENTRIES:
        with pytest.raises(UsageError, match=r"needs PyTorch \(pip install"):
            models.load(name).path()
    assert not list(tmp_path.iterdir())
