"""One version of a model as files: from git, with LFS pointers and external weights followed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from qcompiler.errors import ModelError
from qcompiler.lfs_pointer import read_pointer
from qcompiler.review.lfs_objects import resolve
from qcompiler.review.repository import Repository


class TooLarge(Exception):
    """The version is larger than the caller wants to look at; the argument is its size in bytes."""


def restore(repository: Repository, commit: str, name: str, folder: Path, most: int) -> Path:
    """Write `name` as of `commit`, and the files that hold its weights, below `folder`.

    Args:
        commit: A commit, or "" for what is staged.
        most: Bytes of all its files.

    Returns:
        The model's path.

    Raises:
        TooLarge: Found from sizes alone, before anything large is written.
        ModelError: It is no ONNX model, a weight file is not in the commit, or an LFS object is missing.
    """
    from qcompiler.manifest import external_locations

    path, left = _fetch(repository, commit, PurePosixPath(name), folder, most)
    for location in external_locations(path):
        other = PurePosixPath(location)
        if other.is_absolute() or ".." in other.parts:
            raise ModelError(f"its weights lie outside of its folder: {location!r}", where=name)
        _, left = _fetch(repository, commit, PurePosixPath(name).parent / other, folder, left)
    return path


def restore_graph(repository: Repository, commit: str, name: str, folder: Path) -> Path:
    """The .onnx file alone, without the files that hold its weights.

    Raises:
        ModelError: It is not in the commit, or an LFS object is missing.
    """
    return _fetch(repository, commit, PurePosixPath(name), folder, 1 << 62)[0]


def _fetch(repository: Repository, commit: str, name: PurePosixPath, folder: Path, most: int) -> tuple[Path, int]:
    version = f"{commit}:{name}"
    size = repository.size(version)
    if size is None:
        raise ModelError("is not in the commit", where=str(name), hint="add it to git")
    if size > most:
        raise TooLarge(size)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        repository.write(version, file)
    pointer = read_pointer(path)
    if pointer is not None:
        if pointer.size > most:
            raise TooLarge(pointer.size)
        resolve(path, pointer, repository, str(name))
        size = pointer.size
    return path, most - size
