"""torch and onnxruntime on the same inputs, at several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.session import Session
from qcompiler.torch_export.exporters import root_cause
from qcompiler.torch_export.reference import Trial
from qcompiler.torch_export.result import ParityRow


def compare_with_torch(model: ir.Model, trials: Sequence[Trial], tolerance: float) -> tuple[tuple[ParityRow, ...], str]:
    """One row a trial, and what is wrong: empty where every difference is within `tolerance`.

    Raises:
        ModelError: onnxruntime refuses the model.
    """
    session = Session(model, threads=1)
    rows: list[ParityRow] = []
    wrong = ""
    for trial in trials:
        if trial.expected is None:
            rows.append(ParityRow(trial.sizes, "", None, f"torch refuses: {trial.problem}"))
            continue
        row = _row(session, trial)
        rows.append(row)
        if row.difference is None:
            wrong = wrong or f"onnxruntime fails at {row.label}: {row.problem}"
        elif not row.difference <= tolerance:
            wrong = wrong or f"{row.worst!r} differs from torch by {row.difference:.1e} at {row.label}"
    return tuple(rows), wrong


def _row(session: Session, trial: Trial) -> ParityRow:
    expected = trial.expected or {}
    try:
        got = session.run(trial.feeds)
    except Exception as error:  # onnxruntime raises many unrelated types
        return ParityRow(trial.sizes, "", None, root_cause(error))
    figures = {name: difference(array, got[name]) for name, array in expected.items()}
    worst = max(figures, key=lambda name: figures[name])
    return ParityRow(trial.sizes, worst, figures[worst])


def difference(expected: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> float:
    """max |got - expected| / max(1, max |expected|); infinite where shapes or non-finite elements differ."""
    if expected.shape != got.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    return float(np.abs(a[finite] - b[finite]).max() / max(1.0, np.abs(a[finite]).max()))
