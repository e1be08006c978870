"""The first thing on the page: whether all that was checked holds, and what a reader has to know before the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qcompiler.html_report.figures import count

State = Literal["holds", "look", "fails"]
TITLES: Mapping[State, str] = {
    "holds": "Everything that was checked holds",
    "look": "Compiled; read this before you rely on it",
    "fails": "Something that was checked does not hold",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fails` where a check failed, `look` where one is missing or a warning was given; `lines` say which."""

    state: State
    lines: tuple[str, ...]


def verdict_of(document: Mapping[str, Any]) -> Verdict:
    """From report.json."""
    failed = [*(f"Gate missed: {line}" for line in document["gates"])]
    if document["check"].get("verdict") == "refused":
        failed.append(f"{document['check'].get('tool', 'The build check')} refuses the graph")
    failed += [item["message"] for item in document["diagnostics"] if item["severity"] == "error"]
    doubts = []
    if document["calibration"].get("source") == "synthetic":
        doubts.append("Scales come from synthetic inputs: accuracy on real data is unknown. Compile with --calib.")
    if not document["quantized"]:
        doubts.append("Nothing is quantized.")
    if not document["verification"]:
        doubts.append("The emitted graph was not compared with the float model.")
    undone = sorted({name for item in document["certificates"] if not item["holds"] for name in item["passes"]})
    if undone:
        doubts.append(f"Rewrites that did not keep the function were undone: {', '.join(undone)}.")
    broken = [
        f"{item['name']} ({name})"
        for name, comparison in document["verification"].items()
        for item in comparison["outputs"]
        if item.get("broken") or item.get("misshapen")
    ]
    if broken:
        failed.append(f"Outputs with NaN, infinities or another shape than the float model's: {', '.join(broken)}")
    warnings = sum(item["severity"] == "warning" for item in document["diagnostics"])
    if warnings:
        doubts.append(f"{count(warnings, 'warning')}, listed under Calibration.")
    state: State = "fails" if failed else "look" if doubts else "holds"
    return Verdict(state, (*dict.fromkeys(failed), *doubts))
