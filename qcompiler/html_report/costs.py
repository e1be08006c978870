"""Size of the graphs, and what is known of their speed: an estimate for boards, or how to measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.html_report.elements import Markup, folded, items, note, section, table, tag
from qcompiler.html_report.extras import Extras
from qcompiler.html_report.figures import share, size, three


def costs(document: Mapping[str, Any], extras: Extras) -> Markup:
    """Graphs side by side, kernels, and the roofline's bounds."""
    graphs = document["graphs"]
    names = {"float": "float model", "model": "model.onnx", "host": "host.onnx"}
    rows = [
        (names.get(key, key), size(item["weight_bytes"]), f"{item['nodes']:,}", item["opset"], _kernels(document, key))
        for key, item in graphs.items()
    ]
    headings = ("graph", "weights", "nodes", "opset", "counted")
    return section(
        "costs", "Size and latency", table(headings[:4], [row[:4] for row in rows]),
        *([items(f"{row[0]}: {row[4]}" for row in rows if row[4])] if any(row[4] for row in rows) else []),
        folded("Operators", _operators(graphs)),
        *_estimates(extras.estimates),
    )  # fmt: skip


def _kernels(document: Mapping[str, Any], key: str) -> str:
    facts = document["facts"].get(key, {}) if key != "float" else {}
    return ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in facts.items()
        if isinstance(value, int) and not isinstance(value, bool)
    )


def _operators(graphs: Mapping[str, Any]) -> Markup:
    every = sorted({name for item in graphs.values() for name in item["operators"]})
    rows = [(name, *(item["operators"].get(name, "") for item in graphs.values())) for name in every]
    return table(("operator", *graphs), rows)


def _estimates(found: Mapping[str, Any]) -> list[Markup]:
    title = tag("h3", "Latency")
    if not found:
        return [title, note("No latency was measured during this compile. ", tag("code", "qcompile bench"),
                            " measures it where it is run; the compile's own times are in timings.json.")]  # fmt: skip
    rows = [
        (item["title"], three(item["fp16"]), three(item["int8"]), f"{item['gain']:.2f}x", share(item["memory"]))
        for item in found["boards"]
    ]
    return [
        title,
        note(f"Least time by a roofline of this graph, for {found['shapes']}. An estimate: no board was measured."),
        table(("board", "FP16 ms", "INT8 ms", "gain", "memory-bound"), rows),
        folded("What the estimate rests on", items(found["assumptions"])),
    ]
