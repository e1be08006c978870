"""Single files that a command writes: refused before any work, and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from qcompiler.errors import OutputError, UsageError


def check_files(files: Sequence[Path], sources: Sequence[Path], *, force: bool) -> None:
    """That each may be written. Devices and pipes may always.

    Args:
        sources: What the command reads.

    Raises:
        UsageError: One is named twice.
        OutputError: One exists and `force` is False, is a folder or one of `sources`, or lies where nothing can be
            written.
    """
    if len({file.resolve() for file in files}) < len(files):
        raise UsageError("two outputs are one file", where=str(files[0]))
    read = {source.resolve() for source in sources}
    for file in files:
        if file.is_dir() or file.resolve() in read:
            raise OutputError("is a folder" if file.is_dir() else "is read by this command", where=str(file),
                              hint="name another file")  # fmt: skip
        if file.is_file() and not force:
            raise OutputError("the output exists", where=str(file), hint="--force replaces it")
        if not file.exists() and (not file.parent.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK)):
            raise OutputError(f"cannot write to {file.parent}", where=str(file), hint="choose another folder")


def write_whole(file: Path, content: bytes) -> None:
    """Write beside `file`, then in its place; into a device or a pipe directly.

    Raises:
        OutputError: It can't be written.
    """
    special = file.exists() and not file.is_file()
    partial = file if special else file.with_name(f".{file.name}.partial")
    try:
        partial.write_bytes(content)
        if not special:
            partial.replace(file)
    except OSError as error:
        if not special:
            partial.unlink(missing_ok=True)
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(file)) from error
