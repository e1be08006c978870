"""SCORES.md out of the kept rows of every entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import models
from benchmarks.table import best, title
from models.bootstrap import Interval
from models.fetch import write_text
from models.scoring import number, written

Row = Mapping[str, Any]

_HEAD = """# Scores

Written by `python -m models scores`; do not edit.
{quick}
Task scores with their 95% interval (bootstrap over the test items, 1000 draws) and how many items they rest on;
fidelity compares outputs with the float model's on the same inputs. onnxruntime's rows are the setting whose outputs
are nearest to float by the model's first measure, out of those of benchmarks/settings.py (the few of the short
benchmark for models over 200 MB). qcompile is the command at its defaults:
`qcompile model.onnx --target ort-cpu --calib calibration`.

Data: {data}. Machine: {machine}.
"""


def write_table(out: Path, found: Mapping[str, Mapping[str, Any]], date: str, *, quick: bool) -> None:
    """One table of all entries that were measured; the rest is named below it."""
    facts: Mapping[str, str] = next((d["machine"] for d in found.values() if "machine" in d), {})
    names = ("processor", "python", "onnxruntime", "onnx", "torch", "qcompile-onnx")
    text = _HEAD.format(
        quick="\n**Short form: small test sets and few settings. Not for quoting.**\n" if quick else "",
        data=", ".join(sorted({d["data"] for d in found.values()})),
        machine=", ".join([f"{name} {facts[name]}" for name in names if name in facts] + [date]),
    )
    lines = ["| model | variant | task score | fidelity to float |", "| --- | --- | --- | --- |"]
    notes = []
    for name, document in found.items():
        rows = document["rows"]
        for row in _chosen(name, rows):
            lines.append(f"| {name} | {row['variant']} | {_task(row)} | {_fidelity(row)} |")
        notes += [f"- {name}, {row['variant']}: {row['error']}" for row in rows if "error" in row]
    missing = [name for name in models.TABLE if name not in found]
    notes += [f"- not measured: {', '.join(missing)}"] if missing else []
    parts = [text, *lines, "", *(["## Failures and gaps", "", *notes, ""] if notes else [])]
    write_text(out, "\n".join(parts))


def _chosen(name: str, rows: Sequence[Row]) -> list[Row]:
    """float32, ours, and the best of each of onnxruntime's groups, or its first failure."""
    measure = models.load(name).headlines[0]
    chosen: list[Row] = []
    for group in ("float", "ours", "static uint8", "dynamic"):
        own = [row for row in rows if row["group"] == group]
        flat = [{**row, "scores": _values(row)} for row in own]
        found = best(flat, measure) if group in ("static uint8", "dynamic") else None
        chosen += [found] if found else own[:1]
    return chosen


def _values(row: Row) -> dict[str, float]:
    if "error" in row:
        return {}
    fidelity: dict[str, float] = row["fidelity"]
    return {key: item["value"] for key, item in row["measures"].items()} | fidelity


def _task(row: Row) -> str:
    if "error" in row:
        return f"failed: {row['error'][:160]}"
    return "; ".join(f"{title(k)} {written(Interval(**item))}" for k, item in row["measures"].items()) or "no labels"


def _fidelity(row: Row) -> str:
    if row["group"] == "float":
        return "-"
    return "; ".join(f"{title(k)} {number(v)}" for k, v in row.get("fidelity", {}).items()) or "-"
