"""The card of an entry: where it comes from, what it scores, the hash of every file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models import recorded
from models.fetch import sha256_of
from models.scoring import Scored, data_kind, number
from models.trained import form_line, forms_section, training_lines, training_section
from models.zoo import RealModel

SCHEMA = "qcompile-model-card/1"


def facts_of(path: Path) -> dict[str, Any]:
    """Parameters (elements of float initializers), opset, inputs and outputs of an ONNX file."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type in floats]
    return {
        "parameters": sum(math.prod(tensor.dims) for tensor in weights),
        "opset": next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        "inputs": [_signature(value) for value in model.graph.input],
        "outputs": [_signature(value) for value in model.graph.output],
    }


def _signature(value: Any) -> str:
    import onnx

    tensor = value.type.tensor_type
    shape = ", ".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in tensor.shape.dim)
    return f"{value.name}: {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{shape}]"


def make_card(model: RealModel, folder: Path, float_score: Scored | None, counts: dict[str, int]) -> dict[str, Any]:
    """The card of the files that lie in `folder`.

    Args:
        float_score: Measured here and now; None where the user did not want it.
        counts: Calibration and test batches.
    """
    weights = external_files(folder / "model.onnx")
    forms = [form.file for form in model.forms]
    single = (folder / name for name in ("model.onnx", *weights, *forms, "test.npz", "tokenizer.json"))
    sets = dict.fromkeys(["calibration", *(form.calibration_folder for form in model.forms)])
    paths = [*(path for path in single if path.is_file()), *(p for s in sets for p in sorted((folder / s).iterdir()))]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        "schema": SCHEMA,
        "name": model.name,
        "family": model.family,
        "licence": model.licence,
        "packages": list(model.packages),
        "assets": [asset.describe() for asset in model.assets],
        **facts_of(folder / "model.onnx"),
        "scored output": model.output,
        "data": data_kind(),
        "batches": counts,
        "float score": float_score.document() if float_score else None,
        "recorded": [asdict(item) for item in recorded.of(model.name)],
        "forms": forms_section(model, folder) if model.forms else [],
        "training": training_section(model.trained) if model.trained else None,
        "notes": list(model.notes),
        "model files": ["model.onnx", *weights],
        "files": {name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for name, path in files.items()},
    }


def external_files(path: Path) -> list[str]:
    """Names of the files beside an ONNX file that hold its external data."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    graph = onnx.load(str(path), load_external_data=False).graph
    entries = [e for tensor in graph.initializer if uses_external_data(tensor) for e in tensor.external_data]
    return sorted({entry.value for entry in entries if entry.key == "location"})


def weight_bytes(card: dict[str, Any]) -> int:
    """Size of the model with its external data."""
    return sum(card["files"][name]["bytes"] for name in card["model files"] if name in card["files"])


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card in `folder`; None where there is none that can be read."""
    try:
        document = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("schema") == SCHEMA else None


def is_whole(card: dict[str, Any], folder: Path, *, hashes: bool = True) -> bool:
    """Whether every file of the card is there with its size and, unless `hashes` is false, its hash."""
    return all(
        (folder / name).is_file()
        and (folder / name).stat().st_size == facts["bytes"]
        and not (hashes and sha256_of(folder / name) != facts["sha256"])
        for name, facts in card["files"].items()
    )


def markdown(card: dict[str, Any]) -> str:
    """The card for a reader."""
    rows = {
        "family": card["family"],
        "licence": card["licence"],
        "source": "; ".join(str(next(iter(asset.values()))) for asset in card["assets"]) or "this folder",
        "parameters": f"{card['parameters'] / 1e6:.2f} M",
        "size": f"{weight_bytes(card) / 2**20:.1f} MiB",
        "opset": card["opset"],
        "data": card["data"],
    }  # fmt: skip
    lines = [f"# {card['name']}", "", "| what | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "## Interface", "", *(f"- in `{value}`" for value in _short(card["inputs"]))]
    lines += [f"- out `{value}`" for value in _short(card["outputs"])]
    lines += [f"- scored: `{card['scored output']}`", "", "## Float score", "", *_score_lines(card), ""]
    lines += ["## Training", "", *training_lines(card["training"]), ""] if card["training"] else []
    lines += ["## Files", ""]
    lines += [
        f"- `calibration/`: {card['batches']['calibration']} batches, one .npz each, inputs by name; "
        "`qcompile --calib` takes the folder",
        f"- `test.npz`: {card['batches']['test']} batches; `0000.NAME` is input NAME of the first batch, "
        "`label.NAME` what outputs are judged against",
        *(form_line(form) for form in card["forms"]),
        "",
        "| file | bytes | SHA-256 |",
        "| --- | --- | --- |",
    ]
    shown = {name: facts for name, facts in card["files"].items() if not name.startswith("calibration")}
    lines += [f"| {name} | {facts['bytes']} | {facts['sha256']} |" for name, facts in shown.items()]
    lines += ["", "Hashes of the calibration files and of what was fetched are in card.json.", "", "## Notes", ""]
    lines += [f"- {note}" for note in card["notes"]] or ["- none"]
    return "\n".join([*lines, ""])


def _short(values: Sequence[str], most: int = 8) -> list[str]:
    return [*values[:most], *([f"... and {len(values) - most} more"] if len(values) > most else [])]


def _score_lines(card: dict[str, Any]) -> list[str]:
    lines = ["| measure | value | 95% interval | items | data |", "| --- | --- | --- | --- | --- |"]
    found = card["float score"]
    for name, item in (found["measures"] if found else {}).items():
        lines.append(_score_line(name, item, f"{card['data']}, measured here"))
    for item in card["recorded"]:
        source = "with evaluation data" if item["data"] == "evaluation data" else item["data"]
        lines.append(_score_line(item["measure"], item, f"{source}, recorded"))
    return lines if len(lines) > 2 else ["Not measured: see Notes."]


def _score_line(name: str, item: dict[str, Any], source: str) -> str:
    bounds = f"{number(item['low'])} to {number(item['high'])}"
    return f"| {name} | {number(item['value'])} | {bounds} | {item['items']} | {source} |"
