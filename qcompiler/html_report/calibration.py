"""On what scales were chosen, by which rule, what was measured for it, and what was found odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qcompiler.html_report.elements import Markup, folded, note, section, table, tag
from qcompiler.html_report.figures import count

_ORDER = ("source", "samples", "held_back", "method", "percentile", "notes", "fingerprint")
_TUNED = {"equalize": "Equalization", "units": "Hidden units apart", "rotate": "Rotation",
          "bias_correction": "Bias correction", "rounding": "Rounding of weights", "softmax": "Softmax levels",
          "states": "States of recurrences"}  # fmt: skip


def calibration(document: Mapping[str, Any]) -> Markup:
    """The data, the rules that were compared, the rewrites that were measured, the diagnostics."""
    found = document["calibration"]
    keys = sorted(found, key=lambda key: _ORDER.index(key) if key in _ORDER else len(_ORDER))
    rows = [(key.replace("_", " "), _value(found[key])) for key in keys]
    plan = document["facts"].get("plan", {})
    parts: list[Any] = [table(("data", ""), rows, words=2)]
    rules = plan.get("rules_sqnr")
    if rules:
        used = plan.get("rules", {})
        best = max((value for value in rules.values() if isinstance(value, (int, float))), default=None)
        measured = [
            (rule, tag("b", value) if value == best else value, used.get(rule, 0)) for rule, value in rules.items()
        ]
        samples = count(plan.get("samples", 0), "sample")
        said = f"By the SQNR of the outputs, each measured on up to {samples} of the calibration data."
        parts += [tag("h3", "Clipping rules"), note(said), table(("rule", "SQNR dB", "tensors"), measured)]
    for key, title in _TUNED.items():
        if plan.get(key):
            parts += [tag("h3", title), table(("measured", ""), list(_facts(plan[key])), words=2)]
    parts += _diagnostics(document["diagnostics"])
    return section("calibration", "Calibration", *parts)


def kept_float(document: Mapping[str, Any]) -> Markup:
    """Nodes and tensors that stay float, by reason."""
    groups: dict[str, list[str]] = {}
    for item in document["float"]:
        words = f"{item['name']} ({item['op']})" if item["op"] else f"{item['name']} (tensor)"
        groups.setdefault(item["reason"], []).append(words)
    if not groups:
        return section("float", "Kept float", note("Nothing that could be quantized was left float."))
    lines = [
        folded(f"{len(names):,} \u00d7 {reason}", tag("p", ", ".join(names), class_="words"))
        for reason, names in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    ]
    return section("float", "Kept float", note("What could have been quantized and was not, by reason."), *lines)


def _diagnostics(found: list[dict[str, str]]) -> list[Markup]:
    if not found:
        return []
    order = {"error": 0, "warning": 1}
    rows = [
        (item["code"], tag("span", item["severity"], class_=f"state {item['severity']}"), item["where"],
         item["message"] + (f" ({item['hint']})" if item["hint"] else ""))
        for item in sorted(found, key=lambda item: order.get(item["severity"], 2))
    ]  # fmt: skip
    return [tag("h3", "Findings"), table(("code", "severity", "where", "what"), rows, words=4)]


def _facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Numbers and short mappings as they are; of long ones only how many there are."""
    for key, value in facts.items():
        yield key.replace("_", " "), _value(value)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        if len(value) > 12 or any(isinstance(inner, (Mapping, list)) for inner in value.values()):
            return f"{len(value)}, in report.json"
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value)) if len(value) <= 6 else f"{len(value)}, in report.json"
    return str(value)
