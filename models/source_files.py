"""Source files as byte ids for the typeseg models, labelled by their language, and the judgement of byte labels."""

from __future__ import annotations

import json
import random
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from models.assets import data_folder
from models.bootstrap import Measure, ratio
from models.metrics import kl_divergence, log_softmax
from models.packages import WheelFiles
from models.zoo import Array, Feeds, Scores, TestSet

PACKAGE = "typeseg==0.2.7"
FILE_HASHES = {
    "typeseg/data/mamba_al.onnx": "fac24e89ef9cc80617a93cdfe4f036efc70ecbac73ea779d84ad5578bbb47748",
    "typeseg/data/unet_al.onnx": "9a857ba2ca1df98a905d87f64a6d0812f88cacbefa6b7453fc68364e1a95c7c4",
    "typeseg/data/manifest.json": "3395403c0d116ba80086c7355e33359c7dae6ec73b94b4c73b4467ad37260c00",
}
ASSET = WheelFiles(PACKAGE, FILE_HASHES)
NOTE = (
    "accuracy is noisy and can rise under quantization: judge by agreement and KL. Without QCOMPILE_DATA the files "
    "are those of this Python installation, so scores of two machines differ"
)
FILES = {"calibration": 16, "test": 48}
OTHER, PAD = 128, 129
PACKAGES = ("numpy", "onnx", "onnxruntime", "pip", "setuptools")  # installed wherever this runs
SUFFIXES = {
    ".py": "python", ".h": "c_family", ".c": "c_family", ".cpp": "c_family", ".json": "json", ".md": "markdown",
    ".rst": "restructuredtext", ".css": "css", ".js": "javascript_typescript", ".ts": "javascript_typescript",
    ".sh": "shell", ".ps1": "powershell", ".yaml": "yaml", ".yml": "yaml", ".xml": "xml", ".csv": "csv",
}  # fmt: skip


def model_file(name: str) -> Path:
    """A file of the package's data folder."""
    return ASSET.file(f"typeseg/data/{name}")


@cache
def labels() -> tuple[str, ...]:
    """Label names in the order of the logits."""
    manifest = json.loads(model_file("manifest.json").read_text(encoding="utf-8"))
    return tuple(manifest["labels"])


def ids_of(text: str, count: int) -> Array:
    """The first `count` ids of a text, int64: ASCII as it is, every other byte OTHER."""
    raw = np.frombuffer(text.encode("utf-8", "ignore"), np.uint8)[:count].astype(np.int64)
    printable = ((raw >= 0x20) & (raw < 0x7F)) | np.isin(raw, (0x09, 0x0A, 0x0D))
    return np.asarray(np.where(printable, raw, OTHER))


def files(split: str, count: int | None = None) -> list[tuple[Array, int]]:
    """Ids of whole files (up to 4096 bytes) with their labels; the splits "calibration" and "test" share none.

    Files alternate between the splits within each language, and languages take turns, so both see all of them.
    """
    by_label = _linguist() or _python_installation()
    turns: list[tuple[int, str, Path]] = []
    for label, paths in by_label.items():
        own = paths[1::3] if split == "calibration" else [path for i, path in enumerate(paths) if i % 3 != 1]
        turns.extend((turn, label, path) for turn, path in enumerate(own))
    turns.sort(key=lambda item: (item[0], item[1]))
    chosen = turns[: count or FILES[split]]
    return [(ids_of(path.read_text("utf-8", "replace"), 4096), labels().index(label)) for _, label, path in chosen]


def _linguist() -> dict[str, list[Path]]:
    folder = data_folder("linguist")
    if folder is None:
        return {}
    return {place.name: sorted(place.iterdir()) for place in sorted(folder.iterdir()) if place.name in labels()}


@cache
def _python_installation() -> dict[str, list[Path]]:
    """Files of 400 bytes and more that come with Python and a few packages, at most 40 a language, shuffled."""
    packages = Path(sysconfig.get_path("purelib"))
    places = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("include"))]
    places += [packages / name for name in PACKAGES]
    found: dict[str, dict[bytes, Path]] = {}
    for place in places:
        for path in sorted(place.rglob("*")):
            label = SUFFIXES.get(path.suffix)
            if not label or "site-packages" in path.relative_to(place).parts or not path.is_file():
                continue
            with path.open("rb") as file:
                head = file.read(4096)
            if len(head) >= 400:
                found.setdefault(label, {}).setdefault(head, path)  # copies of a file are one file
    chosen = {}
    for label, paths in sorted(found.items()):
        ordered = list(paths.values())
        random.Random(label).shuffle(ordered)
        chosen[label] = ordered[:40]
    return chosen


def byte_test(chosen: Sequence[tuple[Array, int]], batch: Callable[[Array], Feeds], lengths: Sequence[int]) -> TestSet:
    """A test set of one file a batch, judged on the first `lengths[i]` bytes of file i.

    `batch` makes the model's input of a file's ids.
    """

    def real(outputs: Sequence[Array]) -> list[Array]:
        return [output.reshape(-1, output.shape[-1])[:n] for output, n in zip(outputs, lengths, strict=True)]

    truth = np.array([label for _, label in chosen], np.int64)

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        rows = real(outputs)
        right = [(logits.argmax(-1) == label).sum() for logits, label in zip(rows, truth, strict=True)]
        nll = [-log_softmax(logits)[:, label].sum() for logits, label in zip(rows, truth, strict=True)]
        size = np.array(lengths)
        return {"byte_accuracy": ratio(np.array(right), size), "nll_per_byte": ratio(np.array(nll), size)}

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        a, b = np.concatenate(real(outputs)), np.concatenate(real(reference))
        return {"agreement": float((a.argmax(-1) == b.argmax(-1)).mean()), "kl": kl_divergence(a, b)}

    labels_ = {"label": truth, "length": np.array(lengths, np.int64)}
    return TestSet([batch(ids) for ids, _ in chosen], measures, fidelity, labels_)
