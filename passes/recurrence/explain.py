"""Which recurrences of a model were recognised, by which tensors, and what was rewritten; and what not, why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx_ir as ir

from qcompiler.passes.recurrence.roles import tensor_role, tensor_site, tensors_with_roles
from qcompiler.pipeline import PassRun

OF_RECURRENCES = (
    "loop-to-scan", "roll-up-steps", "parallel-to-scan", "chunks-to-scan", "sink-into-scan", "recognise-recurrences",
    "group-factors", "hoist-from-scan", "chunk-scan", "lay-channels-last",
)  # fmt: skip
_WITH_ROLES = ("recognise-recurrences", "parallel-to-scan", "chunks-to-scan")


def recurrences(model: ir.Model, runs: Iterable[PassRun]) -> list[dict[str, Any]]:
    """One entry a site and pass: `pass`, `site`, `result` (matched or skipped), and `tensors` by role or `reason`."""
    tensors: dict[str, dict[str, str]] = {}
    for value in tensors_with_roles(model):
        role = tensor_role(value)
        assert role is not None
        tensors.setdefault(str(tensor_site(value)), {})[role.value] = str(value.name)
    found: list[dict[str, Any]] = []
    for run in runs:
        if run.name not in OF_RECURRENCES:
            continue
        for site in run.outcome.matched:
            roles = tensors.get(site, {}) if run.name in _WITH_ROLES else {}
            found.append({"pass": run.name, "site": site, "result": "matched", "tensors": roles})
        found += [
            {"pass": run.name, "site": skip.where, "result": "skipped", "reason": skip.reason}
            for skip in run.outcome.skipped
        ]
    return found


def recurrence_table(entries: Iterable[dict[str, Any]]) -> str:
    """One line an entry; empty where there is none."""
    rows = []
    for entry in entries:
        tensors = ", ".join(f"{role} {name}" for role, name in entry.get("tensors", {}).items())
        rows.append((entry["pass"], entry["result"], entry["site"], entry.get("reason", tensors)))
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    ]
    return "\n".join(lines)
