"""The rows of `benchmarks.low_bits` as Markdown: one table a model, methods by bits, mean and range over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.scoring import number

Row = dict[str, Any]


def low_bits_table(rows: Sequence[Row]) -> str:
    """One table for each model, target and test set; a column for each score, with the float model's in the head."""
    groups: dict[tuple[str, str, bool], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["target"], row["quick"]), []).append(row)
    return "\n".join("\n".join(_table(*key, found)) for key, found in groups.items())


def _table(model: str, target: str, quick: bool, rows: Sequence[Row]) -> list[str]:
    good = [row for row in rows if "error" not in row]
    names = list(dict.fromkeys(name for row in good for name in row["scores"]))
    before = good[0]["float"] if good else {}
    seeds = sorted({row["seed"] for row in rows})
    lines = [f"## {model}, {target}{', small test set' if quick else ''}", ""]
    lines += [f"Mean over calibration draws {', '.join(map(str, seeds))}, with the range where there are several.", ""]
    lines += ["| bits | method | " + " | ".join(names) + " |", "| --- " * (len(names) + 2) + "|"]
    lines += ["| float | | " + " | ".join(number(before[name]) if name in before else "" for name in names) + " |"]
    cases = dict.fromkeys((row["bits"], row["method"]) for row in rows)
    for bits, method in sorted(cases, key=lambda case: (-_width(case[0]), case[0])):
        mine = [row for row in rows if (row["bits"], row["method"]) == (bits, method)]
        cells = [_cell([row["scores"][name] for row in mine if name in row.get("scores", {})]) for name in names]
        failed = sorted({row["error"][:120].replace("|", "/") for row in mine if "error" in row})
        lines.append(f"| {bits} | {method} | " + " | ".join(cells) + " |" + (f" failed: {failed[0]}" if failed else ""))
    return [*lines, ""]


def _width(bits: str) -> int:
    """Bits of weights and activations together, to sort by."""
    weights, _, activations = bits.lstrip("w").partition("a")
    return int(weights) + int(activations)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = number(sum(values) / len(values))
    return mean if len(values) == 1 else f"{mean} [{number(min(values))}, {number(max(values))}]"
