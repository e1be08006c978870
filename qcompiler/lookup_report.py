"""`lookup_tables` of the report: each table with its levels, what chose it and what it costs in accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from qcompiler.lookup import NODE_KEY
from qcompiler.passes.softmax.level_quantizers import quantizer_of
from qcompiler.passes.softmax.tables import composed, largest_error

if TYPE_CHECKING:
    from qcompiler.result import CompileResult


def lookup_rows(result: CompileResult) -> list[dict[str, Any]]:
    """One row for each list of levels of a tensor: heads with equal levels share one.

    {"name": the initializer in the emitted graph, "tensor", "layer", "heads": those that it is for, [] for all, "kind",
    "bits", "form", "alpha" and "centre" (null but for tan), "d": the largest level, "levels": as they stand in the
    graph, rising, "exact_levels", "largest_error": between the two for any input}, and what calibration measured,
    null where the plan was given: "error", "error_exact", "by_kind", "rows", "measured_on", "histogram".
    """
    measured = dict(result.facts.get("plan", {}).get("softmax", {}).get("tensors", {}))
    names, rows = _table_names(result.model), []
    for tensor, lookup in result.plan.lookups.items():
        grid = result.plan.tensors.get(tensor) if lookup.form == "integer" else None
        found = measured.get(tensor, {})
        for levels in dict.fromkeys(lookup.heads):
            heads = [index for index, item in enumerate(lookup.heads) if item == levels]
            rows.append({
                "name": names.get(tensor), "tensor": tensor, "layer": found.get("layer", tensor),
                "heads": heads if len(lookup.heads) > 1 else [],
                "kind": levels.kind, "bits": levels.bits, "form": lookup.form,
                "alpha": levels.alpha or None, "centre": levels.centre or None,
                "d": _figure(levels.top),
                "levels": sorted({_figure(value) for value in composed(levels, lookup.top, grid)}),
                "exact_levels": [_figure(value) for value in quantizer_of(levels).levels()],
                "largest_error": _figure(largest_error(levels, lookup.top, grid)),
                **{key: found.get(key) for key in _MEASURED},
            })  # fmt: skip
    return rows


_MEASURED = ("error", "error_exact", "by_kind", "rows", "measured_on", "histogram")


def _table_names(model: ir.Model) -> dict[str, str]:
    """Tensor to the name of the table that it is looked up in."""
    return {
        node.metadata_props[NODE_KEY]: str(node.inputs[0].name)
        for node in model.graph
        if NODE_KEY in node.metadata_props and node.inputs[0] is not None
    }


def _figure(value: float) -> float:
    return float(f"{value:.6g}")
