"""The real files on onnxruntime: known scores of the float models, and both exports of MiniLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import models
from models.zoo import Array, Feeds, MissingAsset, RealModel

pytestmark = pytest.mark.slow


def outputs_of(model: RealModel, path: Path, batches: Sequence[Feeds]) -> list[Array]:
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run([model.output], dict(feeds))[0] for feeds in batches]


@pytest.mark.parametrize(
    ("name", "score", "low", "high"),
    [
        ("pp-ocr", "cer", 0.005, 0.12),  # degraded on purpose; another font moves it
        ("typeseg-unet", "byte_accuracy", 0.6, 1.0),
        ("typeseg-mamba", "byte_accuracy", 0.6, 1.0),
    ],
)
def test_float_scores(name: str, score: str, low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QCOMPILE_DATA", raising=False)
    pytest.importorskip("PIL")
    model = models.load(name)
    try:
        path, test = model.path(), model.test_set(True)
    except MissingAsset as error:
        pytest.skip(str(error))
    found = test.score(outputs_of(model, path, test.batches))[score]
    assert low <= found <= high


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_exports_of_minilm_are_the_torch_model(exporter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("transformers", "safetensors", "tokenizers"):
        pytest.importorskip(module, reason="needs the extra 'models'")
    torch = pytest.importorskip("torch", reason="needs the extra 'models'")
    from models import minilm, sentences

    monkeypatch.setenv("QCOMPILE_CACHE", str(tmp_path))
    try:
        path = minilm.path(exporter)
    except MissingAsset as error:
        pytest.skip(str(error))
    feeds = sentences.token_batch(["One.", "A second sentence that is longer.", "Third."], 24)  # not the exported shape
    with torch.no_grad():
        expected = minilm.encoder()(*(torch.from_numpy(feeds[name]) for name in minilm.NAMES)).numpy()
    (found,) = outputs_of(minilm.MODEL, path, [feeds])
    assert np.abs(found - expected).max() < 1e-4
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
