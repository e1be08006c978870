"""How close outputs and layers are to the float model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.html_report.elements import Markup, note, section, table, tag
from qcompiler.html_report.figures import count, decibels, three

GRAPHS = {"model": "model.onnx", "host": "host.onnx", "host_against_model": "host.onnx against model.onnx"}


def outputs(document: Mapping[str, Any]) -> Markup:
    """A table of all outputs of all graphs."""
    found = document["verification"]
    rows = [
        (item["name"], GRAPHS[name], *_figures(item))
        for name, comparison in _in_order(found)
        for item in comparison["outputs"]
    ]
    if not rows:
        return section("outputs", "Outputs", note("The emitted graphs were not compared with the float model."))
    samples = max(comparison["samples"] for comparison in found.values())
    headings = ("output", "graph", "SQNR", "cosine", "max error", "agreement")
    words = f"Against the float model on {count(samples, 'sample')} that chose no scale."
    return section("outputs", "Outputs", note(words), table(headings, rows, words=2))


def layers(document: Mapping[str, Any]) -> Markup:
    """A place for the chart, which a script draws."""
    if not any(comparison["layers"] for comparison in document["verification"].values()):
        return section("layers", "Layers", note("No layer was compared with the float model."))
    return section(
        "layers", "Layers",
        note("Signal to noise behind each quantized layer, in the order of the graph. Noise of the layers before it is "
             "counted too; a norm behind a layer may remove much of it."),
        tag("div", needs_script(), id="layer-chart"),
    )  # fmt: skip


def layer_rows(document: Mapping[str, Any]) -> dict[str, list[list[Any]]]:
    """For the script: graph to [name, SQNR, cosine, max error, agreement] in graph order."""
    return {
        GRAPHS[name]: [
            [item["name"], item["sqnr"], item["cosine"], item["max_error"], item["agreement"]]
            for item in comparison["layers"]
        ]
        for name, comparison in _in_order(document["verification"])
        if comparison["layers"]
    }


def _in_order(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, found[name]) for name in GRAPHS if name in found]


def needs_script() -> Markup:
    """What stands where a script draws, until it does."""
    return tag("noscript", note("This part needs JavaScript; its figures are in report.json and plan.json."))


def _figures(item: Mapping[str, Any]) -> tuple[str, str, str, str]:
    agreement = "" if item["agreement"] is None else f"{item['agreement']:.2%}"
    odd = " NaN/Inf" if item.get("broken") else " shape" if item.get("misshapen") else ""
    if item.get("integer"):
        return "", "", f"{three(item['max_error'])}{odd}", agreement
    return decibels(item["sqnr"]), str(item["cosine"]), f"{three(item['max_error'])}{odd}", agreement
