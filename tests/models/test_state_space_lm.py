"""A tiny state-space entry from weights to folder: three graphs, data for each, float score, training on the card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("safetensors", reason="needs the extra 'models'")
import torch

from models import recorded, text_windows
from models.card import is_whole
from models.carried_states import SEQUENCE, STEP, WAYS, stepped
from models.get import get
from models.nets.mamba import Mamba, MambaConfig
from models.packages import NpmFiles
from models.scoring import score, whole_test
from models.session import runner
from models.state_space_lm import state_space_entry
from models.trained import TrainedWeights, exported
from models.training.run import Run, save
from models.zoo import RealModel

VOCABULARY = 30
CONFIG = MambaConfig(vocab_size=VOCABULARY, d_model=16, n_layer=1, d_state=4, dt_rank=2)


def trained_weights(folder: Path, seed: int) -> TrainedWeights:
    torch.manual_seed(seed)
    card = {
        "module": "models.nets.mamba:Mamba", "config": asdict(CONFIG), "recipe": {"lr": 0.002, "steps": 7},
        "steps_done": 7, "ended": "all steps done", "scores": {"test_novel": {"perplexity": 29.5, "tokens": 1000}},
    }  # fmt: skip
    curve = [{"step": step, "train": 3.0 - 0.1 * step, "val": 3.2 - 0.1 * step} for step in range(1, 8)]
    save(Run(None, folder, smoke=True), "mamba", Mamba(CONFIG), card, curve)
    return TrainedWeights("mamba", folder)


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealModel:
    """The entry with random weights and a random text in place of the corpus."""
    ids = {split: np.random.default_rng(i).integers(1, VOCABULARY, 9000) for i, split in enumerate(text_windows.TESTS)}
    text = {text_windows.TESTS[name]: array for name, array in ids.items()} | {"train": ids["novel"][::-1]}
    monkeypatch.setenv("QCOMPILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("QCOMPILE_DATA", raising=False)
    monkeypatch.setattr(text_windows, "ids_of", text.__getitem__)
    monkeypatch.setattr(text_windows, "token_bytes", lambda: np.full(VOCABULARY, 4))
    monkeypatch.setitem(text_windows.SIZES, "usual", (512, 2))
    monkeypatch.setattr(NpmFiles, "fetch", lambda self: None)
    monkeypatch.setattr(recorded.of, "__defaults__", (tmp_path / "recorded.json",))
    return state_space_entry("tiny-lm", trained_weights(tmp_path / "weights", 0), "tiny")


@pytest.mark.slow
def test_from_weights_to_folder(entry: RealModel) -> None:
    folder = get(entry)
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert {*WAYS, "card.md", "test.npz", "calibration/0007.npz", "calibration_step/0003.npz"} <= names
    card = json.loads((folder / "card.json").read_text())
    assert set(card["files"]) == names - {"card.json", "card.md", "export.json"} and is_whole(card, folder)

    perplexity = card["float score"]["measures"]["novel_perplexity"]
    assert perplexity["items"] == 2 and perplexity["value"] == pytest.approx(VOCABULARY, rel=0.2)
    bits = card["float score"]["measures"]["novel_bits_per_byte"]["value"]
    assert bits == pytest.approx(np.log2(perplexity["value"]) / 4)
    assert {form["file"]: form["difference"] < 1e-4 for form in card["forms"]} == dict.fromkeys(
        ("chunked.onnx", "step.onnx"), True
    )
    text = (folder / "card.md").read_text()
    for part in ("models/weights/mamba.safetensors", "- recipe: lr 0.002, steps 7", "| 7 | 2.300 | 2.500 |",
                 "calibration data in `calibration_step/`", "within "):  # fmt: skip
        assert part in text

    with np.load(folder / "calibration_step" / "0002.npz") as step:
        outputs = runner(folder / STEP)(dict(step))
    rows = text_windows.calibration_windows()[2::4]
    whole = runner(folder / SEQUENCE)({"input_ids": np.ascontiguousarray(rows[:, :129])})
    np.testing.assert_allclose(outputs["logits"][:, 0], whole["logits"][:, 128], atol=1e-4)

    logits, _ = stepped(runner(folder / STEP), rows[:, 129:131], outputs)
    longer = runner(folder / SEQUENCE)({"input_ids": np.ascontiguousarray(rows[:, :131])})
    np.testing.assert_allclose(logits, longer["logits"][:, 129:], atol=1e-4)

    (same, other) = score(entry, [folder / "chunked.onnx"])
    assert other.error is None and 0.0 <= other.fidelity["kl"] < 1e-9 and other.fidelity["agreement"] > 0.999
    assert other.measures["speeches_perplexity"].value == pytest.approx(same.measures["speeches_perplexity"].value)
    (full,) = score(whole_test(entry))
    assert full.measures["novel_perplexity"].items == 17

    made = (folder / SEQUENCE).stat().st_mtime_ns
    assert get(entry) == folder and (folder / SEQUENCE).stat().st_mtime_ns == made, "what is there is kept"


def test_an_export_is_made_once_for_each_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPILE_CACHE", str(tmp_path / "cache"))
    written: list[tuple[str, float]] = []

    def write(module: Any, name: str, file: Path) -> Any:
        if name == "model.onnx" and len(written) == 5:  # in the middle of the third export
            raise KeyboardInterrupt
        written.append((name, module.embedding.weight[0, 0].item()))
        file.write_text(name)
        return SimpleNamespace(exporter="none", parity=[SimpleNamespace(difference=1e-6)])

    def path(seed: int) -> Path:
        return exported("tiny", trained_weights(tmp_path / "weights", seed), ("step.onnx", "model.onnx"), write)

    for _ in range(2):
        assert path(0) == tmp_path / "cache" / "tiny" / "model.onnx"
        assert [name for name, _ in written] == ["step.onnx", "model.onnx"]
    path(1)
    assert len(written) == 4 and written[3][1] != written[1][1], "other weights"
    with pytest.raises(KeyboardInterrupt):
        path(2)
    path(2)
    assert [name for name, _ in written[4:]] == ["step.onnx", "step.onnx", "model.onnx"], "a cut export is done again"
