"""The exported file, with its weights beside it where they are large: whole or absent."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import onnx_ir as ir

from qcompiler.errors import OutputError
from qcompiler.interrupt import terminate_as_exception


def check_free(path: Path, *, force: bool) -> None:
    """Raises OutputError where `path` can't be written, or exists and `force` is False."""
    where = str(path)
    if path.is_dir():
        raise OutputError("exists and is a folder", where=where, hint="choose another name")
    if path.exists() and not force:
        raise OutputError("the output exists", where=where, hint="--force (force=True) replaces it")
    folder = path.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {folder}", where=where, hint="make the folder, or choose another one")


def write_model(model: ir.Model, path: Path, *, force: bool) -> None:
    """Write `path` and, over 1.5 GB of weights, `<path>.data`, in a temporary folder beside it first.

    Raises:
        OutputError: As `check_free`, or the disk is full.
    """
    from qcompiler.saving import save_model

    with terminate_as_exception():
        place = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.resolve().parent))
        try:
            save_model(model, place / path.name)
            check_free(path, force=force)  # perhaps only since the first check
            for file in sorted(place.iterdir(), reverse=True):  # weights first: the graph names them
                file.replace(path.resolve().parent / file.name)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error
        except OutputError as error:
            raise OutputError(error.message, where=str(path), hint=error.hint) from error
        finally:
            shutil.rmtree(place, ignore_errors=True)
