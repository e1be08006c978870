"""manifest.json: what a bundle holds, for whoever deploys it. Same inputs give the same bytes: no times, no paths.

{"schema": "qcompile-manifest/1", "target", "runtime", "opset", "carrier", "inputs": [{"name", "dtype", "shape"}],
 "outputs": [...], "states": [{"input", "output", "scale" where it is carried as int8}],
 "metadata": {"qcompile.shapes": profiles as text}, "precision": {"w8a8": {"nodes", "runs"}},
 "files": {name: {"sha256", "bytes"}},
 "source": {"file", "sha256", "external": {...}},
 "calibration": {"source", "samples", "fingerprint", ...}, "options": {...}, "versions": {...}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.version import tool_versions

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.options import CompileOptions
    from qcompiler.result import CompileResult

SCHEMA = "qcompile-manifest/1"
FILE_NAME = "manifest.json"
_OURS = "qcompile."
UNHASHED = frozenset({FILE_NAME, "timings.json"})


def manifest_document(result: CompileResult, folder: Path) -> dict[str, Any]:
    """The manifest of the files that lie in `folder`."""
    from qcompiler.report import precisions_of

    opset = result.model.opset_imports.get("", result.target.opset)
    return {
        "schema": SCHEMA,
        "target": result.target.name,
        "runtime": result.target.runtime,
        "opset": opset,
        "carrier": result.options.carrier or result.target.carrier,
        "inputs": [_signature(value) for value in result.model.graph.inputs],
        "outputs": [_signature(value) for value in result.model.graph.outputs],
        "states": _states(result),
        "metadata": {key: text for key, text in sorted(result.model.metadata_props.items()) if key.startswith(_OURS)},
        "files": hash_files(folder),
        "source": source_document(result.source),
        "precision": {row["precision"]: {"nodes": row["nodes"], "runs": row["runs"]} for row in precisions_of(result)},
        "calibration": plain(result.calibration),
        "options": options_document(result.options),
        "versions": tool_versions(),
    }


def hash_files(folder: Path) -> dict[str, dict[str, Any]]:
    """sha256 and size of every file below `folder`, by relative name; the manifest and timings left out."""
    found = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in UNHASHED:
            found[name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    return found


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def source_document(source: str) -> dict[str, Any]:
    """Name and digest of the model file and of its external data; empty where the model came as an object."""
    path = Path(source)
    if not source or not path.is_file():
        return {}
    names = (name for name in external_locations(path) if (path.parent / name).is_file())
    external = {name: sha256_of(path.parent / name) for name in names}
    return {"file": path.name, "sha256": sha256_of(path), "external": external}


def options_document(options: CompileOptions) -> dict[str, Any]:
    """Resolved options; of paths only the file name, of objects only their type."""
    return {item.name: plain(_nameless(item.name, getattr(options, item.name))) for item in fields(options)}


def plain(value: Any) -> Any:
    """The value in JSON's types, mappings sorted; infinities and NaN as texts, which JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, Path):
        return value.name
    if hasattr(value, "item") and not isinstance(value, (str, bytes)) and getattr(value, "size", 1) == 1:
        value = value.item()
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return type(value).__name__


def _nameless(name: str, value: Any) -> Any:
    if name in ("calib", "validate") and isinstance(value, str):
        return Path(value).name
    if name in ("calib", "validate") and value is not None and not isinstance(value, Path):
        return f"<{type(value).__name__}>"
    return value


def _states(result: CompileResult) -> list[dict[str, Any]]:
    """Which outputs are the next values of which inputs; of codes, what one of them stands for."""
    from qcompiler.runtime.signature import Tensor
    from qcompiler.runtime.states import pair_states

    graph, codes = result.model.graph, result.plan.states
    ends = [[Tensor.from_json(_signature(value)) for value in values] for values in (graph.inputs, graph.outputs)]
    pairs = {**pair_states(*ends), **{name: state.next for name, state in codes.items()}}
    scales = {name: {"scale": plain(state.quant.scale.astype("U").astype(float))} for name, state in codes.items()}
    return [{"input": name, "output": output, **scales.get(name, {})} for name, output in pairs.items()]


def _signature(value: ir.Value) -> dict[str, Any]:
    shape = None if value.shape is None else [size if isinstance(size, int) else _symbol(size) for size in value.shape]
    return {"name": value.name, "dtype": None if value.dtype is None else value.dtype.name.lower(), "shape": shape}


def _symbol(size: Any) -> str | None:
    return getattr(size, "value", None)


def external_locations(path: Path) -> list[str]:
    """The files, relative to its folder, in which the model keeps weights, whether they are there or not.

    Raises:
        QcompileError: As `load_model`, where the file is not an ONNX model.
    """
    from qcompiler.model_checks import walk_graphs
    from qcompiler.reading import parse_without_weights

    proto = parse_without_weights(path)
    names = {
        entry.value
        for graph in walk_graphs(proto.graph)
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(names)
