"""Fill the README's table from a complete run's results.json, between its two markers.

python -m benchmarks.readme [results.json]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import models
from benchmarks import process, table

_BLOCK = re.compile(r"(<!-- measured:begin -->\n).*?(<!-- measured:end -->)", re.S)
_COLUMNS = {
    "float32": "float",
    "onnxruntime static, uint8": "static uint8",
    "onnxruntime static, TensorRT-legal": "static TensorRT-legal",
    "onnxruntime dynamic": "dynamic",
}


def lines(facts: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of one row a model: the measures to quote, and speed over float at one thread."""
    ours = {"qcompile ort-cpu": "ort-cpu", "qcompile orin, host.onnx": "orin, on the host"}
    head = ["model, measure", *_COLUMNS, *(f"qcompile {title}" for title in ours.values()), "NVIDIA takes orin"]
    text = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        measures = models.load(name).headlines
        cells = [f"{name}, {' / '.join(map(table.title, measures))}"]
        cells += [
            _cell(table.best([r for r in own if r["group"] == group], measures[0]), measures)
            for group in _COLUMNS.values()
        ]
        cells += [_cell(next((row for row in own if row["variant"] == variant), None), measures) for variant in ours]
        verdict = next((row.get("nvidia", {}).get("verdict") for row in own if row["variant"] == "qcompile orin"), None)
        text.append("| " + " | ".join([*cells, verdict or "not asked"]) + " |")
    where = (
        f"{facts['date']}, {facts['processor']}, {facts['integer instructions']}, onnxruntime {facts['onnxruntime']}"
    )
    return [*text, "", f"Value and speed over float32 at one thread ({where}). {facts.get('note', '')}".rstrip()]


def _cell(row: Mapping[str, Any] | None, measures: Sequence[str]) -> str:
    if row is None or "scores" not in row:
        return "failed"
    values = " / ".join(table.number(row["scores"][name]) for name in measures if name in row["scores"])
    ratio = row.get("latency_1", {}).get("ratio")
    return values + (f", {ratio:.2f}x" if ratio else "")


def main() -> int:
    """Entry point; status 1 where the README has no markers."""
    given = sys.argv[1:] or [str(process.ROOT / "benchmarks" / "results.json")]
    document = json.loads(Path(given[0]).read_text(encoding="utf-8"))
    readme = process.ROOT / "README.md"
    body = "\n".join(lines(document["facts"], document["rows"])) + "\n"
    text, count = _BLOCK.subn(lambda found: found.group(1) + body + found.group(2), readme.read_text(encoding="utf-8"))
    if not count:
        print(f"{readme} has no measured:begin and measured:end", file=sys.stderr)
        return 1
    readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
