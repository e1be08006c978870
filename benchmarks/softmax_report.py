"""The rows of `benchmarks.softmax_tables` as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def markdown(document: dict[str, Any]) -> str:
    """Tables of levels, clipping, cost and NVIDIA's verdicts."""
    lines: list[str] = []
    levels = [row for key, rows in document.items() if key.startswith(("levels ", "scores ")) for row in rows]
    for name in dict.fromkeys(row["model"] for row in levels):
        lines += _levels(name, [row for row in levels if row["model"] == name])
    for key, rows in document.items():
        if key.startswith("clipping "):
            names = list(rows[0]["scores"])
            lines += [f"## {key}", "", f"| what | share | {' | '.join(names)} |", "| --- " * (len(names) + 2) + "|"]
            lines += [f"| {row['what']} | {row['share']:.0%} | " + " | ".join(f"{row['scores'][n]:.4f}" for n in names)
                      + " |" for row in rows]  # fmt: skip
            lines.append("")
        if key.startswith("cost "):
            forms = list(rows[0]["microseconds"])
            lines += [f"## {key}, microseconds", "", f"| layer | scores | {' | '.join(forms)} |"]
            lines.append("| --- " * (len(forms) + 2) + "|")
            for row in rows:
                cells = [row["layer"], "x".join(map(str, row["shape"]))]
                cells += [f"{row['microseconds'][form]:.0f}" for form in forms]
                lines.append(f"| {' | '.join(cells)} |")
            lines.append("")
        if key.startswith("builder "):
            lines += [f"## {key}", ""]
            for row in rows:
                lines.append(f"- {row['target']}, {row['form']}, {row['kind']}: {row['verdict']}, {row['tool']}")
            lines.append("")
    return "\n".join(lines) + "\n"


def _levels(name: str, rows: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(key for row in rows for key in row.get("scores", {})))
    seeds = sorted({row["seed"] for row in rows})
    lines = [f"## {name}, calibration draws {', '.join(map(str, seeds))}", "",
             f"| bits | levels | P V error, table | P V error, exact levels | {' | '.join(names)} |",
             "| --- " * (len(names) + 4) + "|"]  # fmt: skip
    cases = dict.fromkeys((row["bits"], row["kind"]) for row in rows)
    for bits, kind in sorted(cases, key=lambda case: case[0] % 32):  # float first
        mine = [row for row in rows if (row["bits"], row["kind"]) == (bits, kind)]
        cells = [_cell([row[key] for row in mine if key in row]) for key in ("pv_error", "pv_error_exact")]
        cells += [_cell([row["scores"][key] for row in mine if key in row.get("scores", {})]) for key in names]
        lines.append(f"| {bits} | {kind} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = sum(values) / len(values)
    spread = "" if max(values) - min(values) < 5e-5 else f" [{min(values):.4f}, {max(values):.4f}]"
    return f"{mean:.4f}{spread}"
