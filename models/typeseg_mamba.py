"""typeseg's Mamba: 6 bidirectional selective-scan blocks over bytes, ONNX `Scan` at opset 17 (Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

from models import source_files
from models.zoo import Array, Feeds, RealModel, TestSet

CALIBRATION_BYTES, TEST_BYTES, TIMING_BYTES = 384, 640, 512


def path() -> Path:
    """Takes `ids` [T], gives `logits` [T, 35]."""
    return source_files.model_file("mamba_al.onnx")


def _feeds(ids: Array) -> Feeds:
    return {"ids": ids}


def calibration() -> list[Feeds]:
    """The beginnings of files; lengths differ where a file is short."""
    return [_feeds(ids[:CALIBRATION_BYTES]) for ids, _ in source_files.files("calibration")]


def test_set(quick: bool) -> TestSet:
    """The beginnings of other files."""
    chosen = [(ids[:TEST_BYTES], label) for ids, label in source_files.files("test", 10 if quick else None)]
    return source_files.byte_test(chosen, _feeds, [len(ids) for ids, _ in chosen])


def timing() -> Feeds:
    """One file's beginning."""
    longest = max((ids for ids, _ in source_files.files("test")), key=len)
    return _feeds(longest[:TIMING_BYTES])


MODEL = RealModel(
    name="typeseg-mamba",
    packages=(source_files.PACKAGE,),
    output="logits",
    path=path,
    calibration=calibration,
    test_set=test_set,
    timing=timing,
    headlines=("agreement", "kl"),
    family="bidirectional Mamba, labels bytes",
    licence="Apache-2.0",
    assets=(source_files.ASSET,),
    notes=(source_files.NOTE,),
)
