"""The folder of a bundle as an application finds it: its manifest, and files that are what the manifest says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcompiler.errors import ModelError, UsageError
from qcompiler.manifest import FILE_NAME, SCHEMA, sha256_of
from qcompiler.runtime.signature import Tensor

_MODELS = ("model.onnx", "model.onnx.data", "host.onnx", "host.onnx.data", "model.ort")


@dataclass(frozen=True, slots=True)
class BundleFolder:
    """A bundle that was read.

    Attributes:
        files: The names that its manifest hashes.
        states: Input to output of each state that the manifest names.
        scales: Of those that are carried as int8 codes, what one code stands for.
    """

    path: Path
    target: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    files: dict[str, str]
    profiles: dict[str, tuple[tuple[int, ...], ...]]
    states: dict[str, str] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)

    @property
    def for_tensorrt(self) -> bool:
        """Whether model.onnx is for TensorRT and host.onnx for onnxruntime."""
        return "host.onnx" in self.files

    @property
    def host_model(self) -> Path:
        """The graph for onnxruntime."""
        return self.path / ("host.onnx" if self.for_tensorrt else "model.onnx")

    @property
    def model(self) -> Path:
        """The graph for the target."""
        return self.path / "model.onnx"


def read_bundle(folder: Path, *, verify: bool = True) -> BundleFolder:
    """Read the manifest and, with `verify`, compare the model files with it.

    Raises:
        UsageError: No such folder, or none of a bundle.
        ModelError: The manifest is damaged or of a newer kind; a model file is missing or is not what was written.
    """
    if not folder.is_dir():
        raise UsageError("no such folder", where=str(folder), hint="give the folder that qcompile wrote")
    document = _manifest(folder)
    try:
        found = BundleFolder(
            folder,
            str(document["target"]),
            tuple(Tensor.from_json(item) for item in document["inputs"]),
            tuple(Tensor.from_json(item) for item in document["outputs"]),
            {str(name): str(entry["sha256"]) for name, entry in document["files"].items()},
            _profiles(document),
            {str(item["input"]): str(item["output"]) for item in document.get("states", ())},
            {str(item["input"]): float(item["scale"]) for item in document.get("states", ()) if "scale" in item},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError("the manifest is damaged", where=str(folder / FILE_NAME), hint="compile again") from error
    for name in found.files if verify else ():
        if name in _MODELS:
            _check(folder, name, found.files[name])
    return found


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / FILE_NAME
    if not path.is_file():
        raise UsageError("is not a bundle: it has no manifest.json", where=str(folder))
    try:
        document = json.loads(path.read_bytes())
        schema = str(document["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError("the manifest is damaged", where=str(path), hint="compile again") from error
    if schema != SCHEMA:
        raise ModelError(f"the manifest has the schema {schema!r}, not {SCHEMA!r}", where=str(path))
    return document  # type: ignore[no-any-return]


def _check(folder: Path, name: str, digest: str) -> None:
    path = folder / name
    if not path.is_file():
        raise ModelError("the file is missing", where=str(path), hint="copy the whole bundle")
    if sha256_of(path) != digest:
        raise ModelError("differs from manifest.json (sha256)", where=str(path), hint="copy the bundle again")


def _profiles(document: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], ...]]:
    kept = json.loads(document.get("metadata", {}).get("qcompile.shapes", "{}"))
    return {name: tuple(tuple(int(size) for size in shape) for shape in shapes) for name, shapes in kept.items()}
