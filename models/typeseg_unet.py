"""typeseg's U-Net: a one-dimensional CNN over windows of 1536 bytes, opset 17 (Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models import source_files
from models.zoo import Array, Feeds, RealModel, TestSet

WINDOW = 1536


def path() -> Path:
    """Takes `ids` [N, 1536], gives `logits` [N, 1536, 35]."""
    return source_files.model_file("unet_al.onnx")


def _feeds(ids: Array) -> Feeds:
    window = np.full((1, WINDOW), source_files.PAD, np.int64)
    window[0, : min(len(ids), WINDOW)] = ids[:WINDOW]
    return {"ids": window}


def calibration() -> list[Feeds]:
    """One window a file."""
    return [_feeds(ids) for ids, _ in source_files.files("calibration")]


def test_set(quick: bool) -> TestSet:
    """One window of each of other files; padding is not judged."""
    chosen = source_files.files("test", 20 if quick else None)
    return source_files.byte_test(chosen, _feeds, [min(len(ids), WINDOW) for ids, _ in chosen])


def timing() -> Feeds:
    """One window."""
    return test_set(True).batches[0]


MODEL = RealModel(
    name="typeseg-unet",
    packages=(source_files.PACKAGE,),
    output="logits",
    path=path,
    calibration=calibration,
    test_set=test_set,
    timing=timing,
    headlines=("agreement", "kl"),
    family="1-D U-Net, labels bytes",
    licence="Apache-2.0",
    assets=(source_files.ASSET,),
    notes=(source_files.NOTE,),
)
