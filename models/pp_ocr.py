"""PP-OCRv6 small recognizer: a CNN with a transformer neck and CTC over 18710 classes, opset 11 (Apache-2.0)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from models import renders
from models.bootstrap import Measure, ratio
from models.metrics import edit_distance, sqnr
from models.packages import WheelFiles
from models.zoo import Array, Feeds, RealModel, Scores, TestSet

PACKAGE = "rapidocr==3.10.0"
FILE = "rapidocr/models/PP-OCRv6_rec_small.onnx"
ASSET = WheelFiles(PACKAGE, {FILE: "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"})
CALIBRATION, TEST = 64, 200


def path() -> Path:
    """Takes `x` [B, 3, 48, W], gives probabilities [B, W / 8, 18710]; weights stand behind Identity nodes."""
    return ASSET.file(FILE)


@cache
def characters() -> tuple[str, ...]:
    """The dictionary in the file's metadata, with the space that the recognizer adds last."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(str(path())).metadata_props}
    return (*metadata["character"].split("\n"), " ")


def calibration() -> list[Feeds]:
    """Clean and degraded lines by turns."""
    texts = renders.lines("calibration", CALIBRATION)
    return [{"x": renders.render(text, 10_000 + i, degraded=i % 2 == 1)} for i, text in enumerate(texts)]


def test_set(quick: bool) -> TestSet:
    """Degraded lines of other text."""
    truth = renders.lines("test", 60 if quick else TEST)

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        found = [renders.greedy_text(output[0], characters()) for output in outputs]
        return {"cer": ratio(np.array([*map(edit_distance, found, truth)]), np.array([*map(len, truth)]))}

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        a, b = (np.concatenate([output[0] for output in rows]) for rows in (outputs, reference))
        return {"sqnr_db": sqnr(a, b), "agreement": float((a.argmax(-1) == b.argmax(-1)).mean())}

    lines = [{"x": renders.render(text, i, degraded=True)} for i, text in enumerate(truth)]
    return TestSet(lines, measures, fidelity, {"text": np.array(truth)})


def timing() -> Feeds:
    """One line."""
    return {"x": renders.render(renders.lines("test", 1)[0], 0, degraded=True)}


MODEL = RealModel(
    name="pp-ocr",
    packages=(PACKAGE,),
    output="fetch_name_0",
    path=path,
    calibration=calibration,
    test_set=test_set,
    timing=timing,
    headlines=("cer", "sqnr_db"),
    family="CNN and attention, CTC text recognizer",
    licence="Apache-2.0",
    assets=(ASSET,),
    notes=(
        "text is rendered and degraded here, so labels are exact; lines come from the prose of sentences.py",
        "fonts decide the renders: DejaVu from the system, else from matplotlib, else Pillow's own face",
    ),
)
