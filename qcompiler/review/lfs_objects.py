"""What a git-LFS pointer stands for, fetched to its place."""

from __future__ import annotations

import shutil
from pathlib import Path

from qcompiler.errors import ModelError
from qcompiler.lfs_pointer import Pointer
from qcompiler.manifest import sha256_of
from qcompiler.review.repository import Repository


def resolve(path: Path, pointer: Pointer, repository: Repository, name: str) -> None:
    """Put the content where the pointer was: from the objects that are here, else through git-lfs.

    Raises:
        ModelError: Neither has it, or its sha256 is another.
    """
    held = repository.lfs_folder() / pointer.sha256[:2] / pointer.sha256[2:4] / pointer.sha256
    if held.is_file():
        shutil.copyfile(held, path)
    else:
        with path.open("wb") as file:
            fetched = repository.smudge(pointer.text, file)
        if not fetched:
            path.write_bytes(pointer.text)
    if path.stat().st_size != pointer.size or sha256_of(path) != pointer.sha256:
        hint = "check out with `lfs: true`, or run `git lfs fetch --all`"
        raise ModelError("the git-LFS object behind it is missing or damaged", where=name, hint=hint)
