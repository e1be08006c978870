"""A measurement of layers as JSON: `qcompile-sensitivity/1`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qcompiler.sensitivity.result import Fidelity, Layer, LayerSensitivity

SCHEMA = "qcompile-sensitivity/1"


def sensitivity_document(
    found: LayerSensitivity, kept: Sequence[Layer] = (), written: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Keys are only added under this name.

    Args:
        kept: Layers that the written file keeps.
        written: What was written where; None where nothing was.
    """
    names = {layer.name for layer in kept}
    return {
        "schema": SCHEMA,
        "model": found.model,
        "target": found.target,
        "bits": found.bits,
        "by": found.unit,
        "metric": found.metric,
        "rewrites": found.rewrites,
        "calibration": found.calibration,
        "judged_samples": found.judged,
        "all_quantized": _fidelity(found.all_quantized),
        "layers": [
            {
                "name": layer.name,
                "label": layer.label,
                "nodes": list(layer.nodes),
                "op_type": layer.op_type,
                "multiply_adds": layer.multiply_adds,
                "share": layer.share,
                "alone": _fidelity(layer.alone),
                "cumulative": _fidelity(layer.cumulative),
                "kept": layer.name in names,
            }
            for layer in found.layers
        ],
        "written": written,
        "diagnostics": [
            {
                "code": item.code, "severity": str(item.severity), "where": item.where, "message": item.message,
                "hint": item.hint,
            }
            for item in found.diagnostics
        ],
    }  # fmt: skip


def _fidelity(item: Fidelity) -> dict[str, float | None]:
    return {"sqnr": item.sqnr, "sqnr_error": item.error, "cosine": item.cosine, "kl": item.kl}
