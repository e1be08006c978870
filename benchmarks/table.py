"""Rows of a benchmark as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import models

Row = Mapping[str, Any]

_TITLES = {
    "cosine": "cosine", "pairwise_pearson": "pairs' Pearson", "sts16_spearman": "STS16 Spearman", "iou": "IoU",
    "sqnr_db": "SQNR dB", "map_pearson": "map Pearson", "iou_to_float": "IoU to float", "cer": "CER",
    "agreement": "agreement", "kl": "KL", "byte_accuracy": "byte accuracy", "nll_per_byte": "nll per byte",
    "top1": "top-1",
}  # fmt: skip
_LOWER_IS_BETTER = ("cer", "kl", "nll_per_byte")


def scores(row: Row) -> str:
    """The scores of a row in one line."""
    return ", ".join(f"{title(name)} {number(value)}" for name, value in row.get("scores", {}).items())


def latency(row: Row, threads: Sequence[int]) -> str:
    """Milliseconds and speed over float for each thread count, in one line."""
    return "; ".join(_speed(row, count) for count in threads)


def _speed(row: Row, count: int) -> str:
    found = row.get(f"latency_{count}", {})
    if "ms" not in found:
        return str(found.get("error", "-"))
    return f"{found['ms']:.2f} ms ({found.get('ratio', 1.0):.2f}x)"


def title(measure: str) -> str:
    """How a measure is called in tables."""
    return _TITLES.get(measure, measure)


def number(value: float) -> str:
    """A score as text."""
    if value == float("inf"):
        return "exact"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.4f}"


def write(folder: Path, facts: Mapping[str, str], rows: Sequence[Row], threads: Sequence[int], *, quick: bool) -> None:
    """RESULTS.md and results.json in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    portable = [{key: value for key, value in row.items() if key != "file"} for row in rows]
    document = {"facts": facts, "rows": portable}
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    parts = ["# Benchmark results", "", "Written by `make bench`; do not edit.", ""]
    if quick:
        parts += ["**Short form: small test sets and few settings. Not for quoting.**", ""]
    parts += ["| what | value |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in facts.items()), ""]
    parts += [_LEGEND, "", "## Summary", "", *_summary(rows, threads), ""]
    for name in dict.fromkeys(row["model"] for row in rows):
        parts += [f"## {name}", "", *_details([row for row in rows if row["model"] == name], threads), ""]
    (folder / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")


_LEGEND = """Speed is float32's latency over the variant's, the median over interleaved rounds at batch 1 with
threads pinned; above 1 is faster than float. Compile time and peak memory are of the whole process; for onnxruntime's
quantizers without the preparation (opset, `quant_pre_process`) that was done for them beforehand. NVIDIA is the verdict
of TensorRT-RTX's ONNX parser and ahead-of-time builder for SM 8.6. The summary takes, of each group, the variant
nearest to float."""


def _summary(rows: Sequence[Row], threads: Sequence[int]) -> list[str]:
    groups = ("float", "static uint8", "static TensorRT-legal", "dynamic")
    lines = ["| model | measure | variant | value | " + " | ".join(f"speed, {n} thr." for n in threads) + " | NVIDIA |"]
    lines.append("|" + " --- |" * (5 + len(threads)))
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        measures = models.load(name).headlines
        chosen = [found for group in groups if (found := best([r for r in own if r["group"] == group], measures[0]))]
        chosen += [row for row in own if row["group"].startswith("ours")]
        for row in chosen:
            found = row.get("scores", {})
            values = ", ".join(number(found[m]) for m in measures if m in found) or f"failed: {row.get('error')}"
            speeds = " | ".join(_speed(row, count) for count in threads)
            label = ", ".join(title(measure) for measure in measures if measure in found)
            lines.append(f"| {name} | {label} | {row['variant']} | {values} | {speeds} | {_verdict(row)} |")
    return lines


def best(rows: Sequence[Row], measure: str) -> Row | None:
    """The row with the best value of `measure`; None where no row has one."""
    scored = [row for row in rows if measure in row.get("scores", {})]
    sign = -1.0 if measure in _LOWER_IS_BETTER else 1.0
    return max(scored, key=lambda row: sign * row["scores"][measure], default=None)


def _verdict(row: Row) -> str:
    answer = row.get("nvidia")
    return str(answer["verdict"]) if answer else "not asked"


def _details(rows: Sequence[Row], threads: Sequence[int]) -> list[str]:
    measures = list(dict.fromkeys(measure for row in rows for measure in row.get("scores", {})))
    titles = [title(measure) for measure in measures]
    head = ["variant", *titles, *(f"{n} thr." for n in threads), "compile s", "peak MiB", "size MiB", "NVIDIA"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    notes = []
    for row in rows:
        found = row.get("scores", {})
        cells = [row["variant"], *(number(found[m]) if m in found else "-" for m in measures)]
        cells += [_speed(row, count) for count in threads]
        cells += [
            f"{row['seconds']:.1f}" if "seconds" in row else "-",
            f"{row['peak_mib']:.0f}" if "peak_mib" in row else "-",
        ]
        cells += [f"{row['mib']:.1f}" if "mib" in row else "-", _verdict(row)]
        lines.append("| " + " | ".join(cells) + " |")
        if "error" in row:
            notes.append(f"- {row['variant']}: {row['error']}")
        refused = row.get("nvidia", {})
        if refused.get("verdict") == "refused":
            notes.append(f"- {row['variant']}, NVIDIA: {' '.join(refused['messages'])[:240]}")
    prepared = {row["prepared"] for row in rows if row.get("prepared")}
    notes += [f"- prepared for onnxruntime's quantizers: {note}" for note in sorted(prepared)]
    return [*lines, "", *notes] if notes else lines
