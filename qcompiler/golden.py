"""golden/: inputs and what the emitted model makes of them on onnxruntime, to replay anywhere.

`golden/<i>.inputs.npz`, `golden/<i>.outputs.npz` (of host.onnx, or of model.onnx where that runs on onnxruntime) and
`golden/<i>.float.npz` (of the float reference). `golden/tolerances.json` bounds a replay on another processor: float
operators round differently there, which moves a few activations to the neighbouring integer. So an output may differ by
half of what quantization itself changed, and by no less than 1e-4 of its largest magnitude.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.report import encode
from qcompiler.session import Arrays, Feeds, Session

FOLDER = "golden"


def write_golden(runnable: ir.Model, golden: Sequence[tuple[Feeds, Arrays]], folder: Path) -> None:
    """Run `runnable` on the golden inputs and write everything below `folder`/golden."""
    if not golden:
        return
    place = folder / FOLDER
    place.mkdir()
    session = Session(runnable)
    emitted = [session.run({name: feeds[name] for name in session.input_names}) for feeds, _ in golden]
    for index, ((feeds, floats), outputs) in enumerate(zip(golden, emitted, strict=True)):
        write_npz(place / f"{index}.inputs.npz", {name: feeds[name] for name in session.input_names})
        write_npz(place / f"{index}.outputs.npz", outputs)
        write_npz(place / f"{index}.float.npz", floats)
    (place / "tolerances.json").write_bytes(encode(tolerances(emitted, [floats for _, floats in golden])))


def tolerances(emitted: Sequence[Arrays], floats: Sequence[Arrays]) -> dict[str, dict[str, float]]:
    """Per output {"atol"} for floats, {"agreement"} (share of equal elements) for the rest."""
    found: dict[str, dict[str, float]] = {}
    for name, first in emitted[0].items():
        if first.dtype.kind not in "fV":
            found[name] = {"agreement": 0.99}
            continue
        peak = max(_largest(outputs[name]) for outputs in emitted)
        error = max(
            (_largest_error(got[name], want.get(name)) for got, want in zip(emitted, floats, strict=True)), default=0.0
        )
        found[name] = {"atol": float(f"{max(1e-4 * peak, 0.5 * error, 1e-6):.1e}")}
    return found


def write_npz(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """An .npz whose bytes depend on the arrays only; any name may be a key, and texts are stored without pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            if array.dtype.kind == "O":
                array = array.astype(np.str_)
            if array.dtype.kind == "V" or array.dtype.name == "bfloat16":  # numpy alone can't read these back
                array = array.astype(np.float32)
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array, order="C"), allow_pickle=False)


def _largest(array: np.ndarray[Any, Any]) -> float:
    return float(_finite(array.astype(np.float64).ravel()).max(initial=0.0))


def _largest_error(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any] | None) -> float:
    if want is None or got.shape != want.shape:
        return 0.0
    with np.errstate(invalid="ignore"):  # an infinity less itself
        return float(_finite((got.astype(np.float64) - want.astype(np.float64)).ravel()).max(initial=0.0))


def _finite(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    finite: np.ndarray[Any, Any] = np.abs(values[np.isfinite(values)])
    return finite
