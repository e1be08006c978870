"""The folder of an analysis: analysis.json and plots, whole or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path

from qcompiler.analysis.document import SCHEMA, analysis_document
from qcompiler.analysis.result import Analysis
from qcompiler.bundle import put_in_place, temporary_beside
from qcompiler.errors import OutputError
from qcompiler.interrupt import terminate_as_exception
from qcompiler.report import encode

FILE_NAME = "analysis.json"


def write_analysis(found: Analysis, folder: Path, *, plots: bool, force: bool = False) -> list[str]:
    """Write to `folder`; the names of the files.

    Raises:
        OutputError: As `check_folder`; or a file can't be written.
    """
    place = check_folder(folder, force=force)
    try:
        with terminate_as_exception(), temporary_beside(place) as partial:
            document = analysis_document(found)
            (partial / FILE_NAME).write_bytes(encode(document))
            if plots:
                from qcompiler.analysis.plots import write_plots

                write_plots(document, partial)
            check_folder(folder, force=force)
            names = sorted(path.name for path in partial.iterdir())
            put_in_place(partial, place)
            return names
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(folder),
                          hint="is there space, may you write there?") from error  # fmt: skip


def check_folder(folder: Path, *, force: bool) -> Path:
    """The resolved folder, if an analysis may be written there.

    Raises:
        OutputError: It exists and `force` is False, or is something else than an analysis; its parent can't be written.
    """
    place = folder.resolve()
    if place.exists():
        if not place.is_dir() or (any(place.iterdir()) and not _is_analysis(place)):
            raise OutputError("exists and is no analysis of qcompile", where=str(folder), hint="choose another -o")
        if any(place.iterdir()) and not force:
            raise OutputError("the output exists", where=str(folder), hint="--force replaces it")
    parent = next(item for item in place.parents if item.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {parent}", where=str(folder), hint="choose another -o")
    return place


def _is_analysis(folder: Path) -> bool:
    """Whether it holds our JSON and, beside it, nothing but figures of ours."""
    try:
        ours = json.loads((folder / FILE_NAME).read_bytes())["schema"] == SCHEMA
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return ours and all(path.name == FILE_NAME or path.suffix in (".png", ".svg") for path in folder.iterdir())
