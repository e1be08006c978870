"""The folder `<stem>.<target>/`: written beside its place, renamed at the end, so it is whole or absent."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler import manifest
from qcompiler.errors import OutputError
from qcompiler.interrupt import terminate_as_exception

if TYPE_CHECKING:
    from qcompiler.result import CompileResult

_DERIVED = ("*.plan", "*.engine", "*.cache", "layers.json", "profile.json", "timings.json", "__pycache__")
"""What build_engine.sh and run_ort.py leave in a bundle; goes with it under --force."""


def write_bundle(result: CompileResult, folder: Path, *, force: bool = False) -> Path:
    """Write the bundle to `folder` and return it.

    A failure, Ctrl-C or SIGTERM leaves neither a part of it nor a changed older bundle.

    Raises:
        OutputError: As `check_output`; or a file can't be written.
    """
    folder = check_output(folder, result.source or None, force=force)
    with terminate_as_exception(), _wrapped(folder), _temporary_beside(folder) as place:
        _fill(result, place)
        if folder.exists():  # perhaps only since the first check: another compile may have been faster
            _check_replaceable(folder, str(folder), force=force)
        _put(place, folder)
    return folder


def check_output(folder: Path, source: str | Path | None, *, force: bool) -> Path:
    """The resolved folder, if the bundle may be written there.

    Raises:
        OutputError: It exists and `force` is False; it is a file, no bundle, or a bundle with files that aren't ours;
            it holds the source model; its parent doesn't exist or can't be written.
    """
    where = str(folder)
    if folder.suffix in (".onnx", ".ort", ".pb"):
        raise OutputError("the output is a folder", where=where, hint=f"write -o {folder.with_suffix('')}")
    folder = folder.resolve()
    if source is not None and Path(source).resolve() in (folder, *_inside(folder, source)):
        raise OutputError("the output would replace the model that is compiled", where=where, hint="choose another -o")
    if folder.exists():
        _check_replaceable(folder, where, force=force)
    parent = next(item for item in folder.parents if item.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {parent}", where=where, hint="choose another -o")
    return folder


def is_bundle(folder: Path) -> bool:
    """Whether the folder holds a manifest of ours."""
    return _read_manifest(folder) is not None


def _inside(folder: Path, source: str | Path) -> list[Path]:
    path = Path(source).resolve()
    return [path] if folder in path.parents else []


def _check_replaceable(folder: Path, where: str, *, force: bool) -> None:
    if not folder.is_dir():
        raise OutputError("exists and is not a folder", where=where, hint="choose another -o")
    if not any(folder.iterdir()):
        return
    document = _read_manifest(folder)
    if document is None:
        raise OutputError("the folder exists and is not a bundle of qcompile", where=where, hint="choose another -o")
    if not force:
        raise OutputError("the output exists", where=where, hint="--force replaces it")
    known = {*document.get("files", {}), *manifest.UNHASHED}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        derived = any(Path(part).match(pattern) for part in relative.parts for pattern in _DERIVED)
        if path.is_file() and relative.as_posix() not in known and not derived:
            raise OutputError(
                f"holds {relative.as_posix()!r}, which qcompile did not write", where=where, hint="move it away"
            )


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        document = json.loads((folder / manifest.FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    ours = isinstance(document, dict) and str(document.get("schema", "")).startswith("qcompile-manifest/")
    return document if ours else None


def _fill(result: CompileResult, place: Path) -> None:
    from qcompiler.golden import write_golden
    from qcompiler.html_report.page import report_html
    from qcompiler.report import encode, report_document, timings_document
    from qcompiler.saving import save_model

    save_model(result.model, place / "model.onnx")
    if result.host is not None:
        save_model(result.host, place / "host.onnx")
    (place / "plan.json").write_bytes(result.plan.to_json())
    document = report_document(result)
    (place / "report.json").write_bytes(encode(document))
    (place / "report.html").write_text(report_html(result, document), encoding="utf-8", newline="\n")
    for name, content in sorted(result.extra_files.items()):
        (place / name).write_bytes(content)
        if name.endswith(".sh"):
            (place / name).chmod(0o755)
    (place / "run_ort.py").write_bytes(files("qcompiler").joinpath("data/run_ort.py").read_bytes())
    write_golden(result.host or result.model, result.golden, place)
    if result.options.format == "ort":
        from qcompiler.ort_format import write_ort

        write_ort(place / ("host.onnx" if result.host else "model.onnx"), place, [feeds for feeds, _ in result.golden])
    (place / manifest.FILE_NAME).write_bytes(encode(manifest.manifest_document(result, place)))
    (place / "timings.json").write_bytes(encode(timings_document(result)))


@contextmanager
def _wrapped(folder: Path) -> Iterator[None]:
    try:
        yield
    except OutputError as error:  # it names a file in the temporary folder, which the user never asked for
        raise OutputError(error.message, where=str(folder), hint=error.hint) from error
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror or error}",
            where=str(folder),
            hint="is there space, may you write there?",
        ) from error


@contextmanager
def _temporary_beside(folder: Path) -> Iterator[Path]:
    """A new folder on the same file system; gone at the end unless it was renamed. New parents go too on failure."""
    made = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    place: Path | None = None
    try:
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        place.chmod(0o777 & ~_umask())
        yield place
    except BaseException:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def _put(place: Path, folder: Path) -> None:
    """Rename `place` to `folder`; an older bundle steps aside first and comes back where that fails."""
    if not folder.exists():
        place.rename(folder)
        return
    aside = folder.with_name(f"{place.name}.old")
    folder.rename(aside)
    try:
        place.rename(folder)
    except BaseException:
        if not folder.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


temporary_beside, put_in_place = _temporary_beside, _put  # for other verbs that write folders
