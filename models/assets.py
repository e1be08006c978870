"""Where files of installed packages, exported models and optional data sets are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from models.zoo import MissingAsset

ROOT = Path(__file__).resolve().parent.parent


def installed_file(relative: str) -> Path | None:
    """The file `relative` to an import path, without importing anything; None where there is none."""
    for entry in sys.path:
        candidate = Path(entry or ".") / relative
        if candidate.is_file():
            return candidate.resolve()
    return None


def data_folder(name: str) -> Path | None:
    """The data set `name` in the folder that QCOMPILE_DATA names; None where there is none."""
    root = os.environ.get("QCOMPILE_DATA")
    if not root:
        return None
    folder = Path(root) / name
    if not folder.is_dir():
        raise MissingAsset(f"QCOMPILE_DATA is set, but {folder} is not a folder")
    return folder


def cache_folder() -> Path:
    """A folder for exported models, cache/ beside the code or what QCOMPILE_CACHE names."""
    folder = Path(os.environ.get("QCOMPILE_CACHE", ROOT / "cache"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
