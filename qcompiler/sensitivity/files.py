"""Single files that a command writes: refused before any work, and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from qcompiler.errors import OutputError, UsageError


def check_files(files: Sequence[Path], source: Path, *, force: bool) -> None:
    """That each may be written.

    Raises:
        UsageError: One is named twice.
        OutputError: One exists and `force` is False, is a folder or `source`, or lies where nothing can be written.
    """
    if len({file.resolve() for file in files}) < len(files):
        raise UsageError("two outputs are one file", where=str(files[0]))
    for file in files:
        if file.is_dir() or file.resolve() == source.resolve():
            raise OutputError("is a folder" if file.is_dir() else "is the model", where=str(file), hint="name a file")
        if file.exists() and not force:
            raise OutputError("the output exists", where=str(file), hint="--force replaces it")
        if not file.parent.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write to {file.parent}", where=str(file), hint="choose another folder")


def write_whole(file: Path, content: bytes) -> None:
    """Write beside `file`, then in its place.

    Raises:
        OutputError: It can't be written.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(file)) from error
