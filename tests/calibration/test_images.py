"""Image folders: size, order of channels and normalization follow the model and --preprocess."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.calibration.data import InputSpec, open_source
from qcompiler.calibration.images import IMAGENET, Normalization, parse_preprocess
from qcompiler.errors import CalibrationError, UsageError

Image = pytest.importorskip("PIL.Image")
F32 = np.dtype(np.float32)
NCHW = (InputSpec("x", F32, ("n", 3, 8, 6)),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "class").mkdir()
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "a.png")
    Image.fromarray(np.full((5, 5), 128, np.uint8)).save(tmp_path / "class" / "b.jpg")
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_images_are_resized_normalized_and_laid_out(folder: Path) -> None:
    source = open_source(folder, NCHW, preprocess="imagenet")
    red, grey = (feed["x"] for feed in source)
    assert (source.name, source.count) == ("images", 2)
    assert red.shape == grey.shape == (1, 3, 8, 6)
    expected = (np.array([1.0, 0.0, 0.0]) - IMAGENET.mean) / IMAGENET.std
    assert np.allclose(red[0, :, 4, 3], expected, atol=1e-6)
    last = (InputSpec("x", F32, (1, 8, 6, 3)),)
    assert np.array_equal(
        next(iter(open_source(folder, last, preprocess="imagenet")))["x"][0].transpose(2, 0, 1), red[0]
    )


@pytest.mark.parametrize(
    ("text", "red"), [("0..1", (1, 0, 0)), ("-1..1", (1, -1, -1)), ("mean=0,0,0.5;std=1,0.5,0.5", (1, 0, -1))]
)
def test_ranges(folder: Path, text: str, red: tuple[float, ...]) -> None:
    first = next(iter(open_source(folder, NCHW, preprocess=text)))["x"]
    assert np.allclose(first[0, :, 0, 0], red, atol=1e-6)


def test_grey_models_bytes_and_free_sizes(folder: Path) -> None:
    grey = next(iter(open_source(folder, (InputSpec("x", F32, (1, 1, 8, 8)),), preprocess="0..1")))["x"]
    assert grey.shape == (1, 1, 8, 8)
    pixels = next(iter(open_source(folder, (InputSpec("x", np.dtype(np.uint8), (1, 8, 8, 3)),), preprocess="0..1")))[
        "x"
    ]
    assert pixels[0, 0, 0].tolist() == [255, 0, 0]
    free = next(iter(open_source(folder, (InputSpec("x", F32, ("n", 3, "h", "w")),), preprocess="0..1")))["x"]
    assert free.shape == (1, 3, 224, 224)


def test_damaged_images_and_missing_normalization_are_named(folder: Path) -> None:
    with pytest.raises(CalibrationError, match=r"needs its normalization .*--preprocess"):
        open_source(folder, NCHW)
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:40])
    with pytest.raises(CalibrationError, match=r"c\.png: not a readable image"):
        list(open_source(folder, NCHW, preprocess="0..1"))


@pytest.mark.parametrize("inputs", [(InputSpec("x", F32, ("n", 5)),), NCHW * 2, (InputSpec("x", F32, (1, 7, 8, 8)),)])
def test_models_without_an_image_input_are_refused(folder: Path, inputs: Any) -> None:
    with pytest.raises(CalibrationError, match=r"use \.npz files"):
        open_source(folder, inputs, preprocess="0..1")


def test_pillow_is_asked_for_where_it_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(CalibrationError, match=r"needs pillow .*pip install"):
        open_source(folder, NCHW, preprocess="0..1")


@pytest.mark.parametrize(
    "text", ["", "caffe", "mean=1", "mean=a;std=b", "mean=0,0;std=1,1", "mean=0;std=0", "mean=nan;std=1"]
)
def test_preprocessing_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="is no preprocessing"):
        parse_preprocess(text)


def test_parse() -> None:
    assert parse_preprocess("mean=0.5; std=0.25,0.5,1") == Normalization((0.5,), (0.25, 0.5, 1.0))
