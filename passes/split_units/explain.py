"""Of which hidden layers units can be computed apart, and of which not and why: as a table, and as JSON."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from qcompiler.passes.sites.records import Refusal, Site
from qcompiler.passes.split_units.hidden_layers import hidden_layers


def unit_splits(model: ir.Model) -> dict[str, Any]:
    """Each hidden layer with its readers, and each MLP that is none with its reason."""
    found = hidden_layers(model)
    return {
        "matched": [
            {"site": item.name, "units": item.channels, "readers": [str(reader.node.name) for reader in item.readers]}
            for item in found
            if isinstance(item, Site)
        ],
        "skipped": [{"site": item.name, "reason": item.reason} for item in found if isinstance(item, Refusal)],
    }


def unit_table(found: dict[str, Any]) -> str:
    """One line a hidden layer, then the counts; empty where there is none."""
    rows = [("matched", item["site"], f"{item['units']} units") for item in found["matched"]]
    rows += [("skipped", item["site"], item["reason"]) for item in found["skipped"]]
    if not rows:
        return ""
    width = max(len(row[1]) for row in rows)
    lines = [f"units  {what}  {site.ljust(width)}  {words}" for what, site, words in rows]
    return "\n".join([*lines, f"units can be split off: {len(found['matched'])}; skipped: {len(found['skipped'])}"])
