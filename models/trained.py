"""What the entries trained here share: weights of this repository as an asset, the export, the training on the card."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.assets import cache_folder
from models.fetch import sha256_of, write_text
from models.zoo import MissingAsset, RealModel
from qcompiler.torch_export.requirement import require_torch

WEIGHTS = Path(__file__).resolve().parent / "weights"
_MARKER = "export.json"
_BARS = "▁▂▃▄▅▆▇█"
_POINTS = 8  # of a curve, in the card's table


@dataclass(frozen=True, slots=True)
class TrainedWeights:
    """NAME.safetensors, NAME.card.json and NAME.curve.json as training wrote them."""

    name: str
    folder: Path = WEIGHTS

    def fetch(self) -> None:
        """Nothing to download; MissingAsset where a file is absent or not the one of its card."""
        expected = self.sha256
        file = self.folder / f"{self.name}.safetensors"
        if not file.is_file() or sha256_of(file) != expected:
            raise MissingAsset(f"{file} is missing or not the one of its card", hint="check the repository out again")

    def describe(self) -> dict[str, object]:
        """For the card."""
        return {"repository": f"models/weights/{self.name}.safetensors", "sha256": self.sha256}

    @property
    def sha256(self) -> str:
        """Of the weights, as their card says."""
        return str(self.card()["weights"]["sha256"])

    def card(self) -> dict[str, Any]:
        """Recipe, device and scores of the training run."""
        document: dict[str, Any] = self._read("card")
        return document

    def curve(self) -> list[dict[str, float]]:
        """Points of the training run: step, losses, validation."""
        points: list[dict[str, float]] = self._read("curve")
        return points

    def _read(self, kind: str) -> Any:
        file = self.folder / f"{self.name}.{kind}.json"
        if not file.is_file():
            raise MissingAsset(f"{file} is missing", hint="check the repository out again")
        return json.loads(file.read_text(encoding="utf-8"))


def exported(entry: str, weights: TrainedWeights, files: Sequence[str], write: Callable[[Any, str, Path], Any]) -> Path:
    """cache/ENTRY/model.onnx, after making it and the other `files` out of the weights where that is not done.

    Args:
        files: "model.onnx" among them.
        write: Exports the torch module as the file of this name to the path, which may exist.

    Raises:
        UsageError: An export is due and torch is not installed.
        MissingAsset: The weights are absent or damaged.
    """
    folder = cache_folder() / entry
    marker = folder / _MARKER
    if not _made_from(marker, weights.sha256) or not all((folder / name).is_file() for name in files):
        require_torch()
        weights.fetch()
        from models.nets.trained import load_trained

        folder.mkdir(parents=True, exist_ok=True)
        marker.unlink(missing_ok=True)
        module = load_trained(weights.name, weights.folder)
        for name in files:
            result = write(module, name, folder / name)
            worst = max((row.difference or 0.0 for row in result.parity), default=0.0)
            line = f"models: {entry}: {name} by the {result.exporter} exporter, within {worst:.1e} of torch"
            print(line, file=sys.stderr, flush=True)
        write_text(marker, json.dumps({"weights": weights.sha256}) + "\n")
    return folder / "model.onnx"


def _made_from(marker: Path, sha256: str) -> bool:
    try:
        return bool(json.loads(marker.read_text(encoding="utf-8"))["weights"] == sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def training_section(weights: TrainedWeights) -> dict[str, Any]:
    """For card.json: the training's own card, and its curve."""
    return {**weights.card(), "curve": weights.curve()}


def training_lines(section: dict[str, Any]) -> list[str]:
    """The same for a reader: recipe, device, held-out scores of the torch module, the curve as bars and a table."""
    recipe = ", ".join(f"{name} {value:g}" for name, value in section["recipe"].items())
    seconds = f"{section['seconds']:.0f} s on one {section['device']}, torch {section['torch']}, seed {section['seed']}"
    lines = [
        f"- {section['module'].rpartition(':')[2]}, {section['parameters']:,} parameters, by "
        f"`{section['module'].replace('nets', 'training').partition(':')[0]}`",
        f"- {section['steps_done']} steps in {seconds}; {section['ended']}",
        f"- recipe: {recipe}",
        *(f"- torch's score, {name}: {_values(found)}" for name, found in _scores(section["scores"]).items()),
        "",
    ]
    points = section["curve"]
    keys = [key for key in dict.fromkeys(key for point in points for key in point) if key != "step"]
    for key in keys:
        values = [point[key] for point in points if key in point]
        lines.append(f"    {key:<9} {bars(values)}  {values[0]:.3f} to {values[-1]:.3f}")
    full = [point for point in points if all(key in point for key in keys)] or points
    chosen = full[:: -(-len(full) // _POINTS)]
    chosen += [full[-1]] if chosen[-1] is not full[-1] else []
    lines += ["", f"| step | {' | '.join(keys)} |", "| --- |" + " --- |" * len(keys)]
    lines += [f"| {point['step']} | {' | '.join(f'{point[key]:.3f}' for key in keys)} |" for point in chosen]
    return lines


def bars(values: Sequence[float], width: int = 40) -> str:
    """At most `width` values as bars between their smallest and largest."""
    chosen = [values[i * len(values) // min(width, len(values))] for i in range(min(width, len(values)))]
    low, high = min(chosen), max(chosen)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in chosen)


def _scores(scores: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Scores by test set; a ViT's card has one set, without a name."""
    return scores if all(isinstance(found, dict) for found in scores.values()) else {"test": scores}


def _values(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4f}"
                     for name, value in found.items())  # fmt: skip


def forms_section(model: RealModel, folder: Path) -> list[dict[str, Any]]:
    """The other graphs for card.json, each with its calibration folder and how far it is from model.onnx."""
    found = model.compare_forms(folder) if model.compare_forms else {}
    return [
        {"file": form.file, "what": form.what, "calibration": form.calibration_folder, "difference": found[form.file]}
        for form in model.forms
    ]


def form_line(form: dict[str, Any]) -> str:
    """One of them for a reader."""
    return (
        f"- `{form['file']}`: {form['what']}; calibration data in `{form['calibration']}/`; outputs and final states "
        f"within {form['difference']:.1e} of model.onnx's, measured here"
    )
