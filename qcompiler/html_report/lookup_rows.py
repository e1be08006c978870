"""The lookup tables of report.json, as the script that draws them takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.html_report.figures import three

_KINDS = {"tan": "tan (TanQ)", "log_sqrt2": "log sqrt 2"}


def table_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each list of levels "tensor", "name" (with its heads), "words", "levels", "counts" and their "top"."""
    return [
        {
            "tensor": row["tensor"],
            "name": _name(row),
            "words": _words(row),
            "levels": row["levels"],
            "counts": (row["histogram"] or {}).get("counts", []),
            "top": (row["histogram"] or {}).get("top", row["d"]),
        }
        for row in document.get("lookup_tables", ())
    ]


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['tensor']}, heads {' '.join(map(str, row['heads']))}" if row["heads"] else str(row["tensor"])


def _words(row: Mapping[str, Any]) -> str:
    words = f"{_KINDS.get(row['kind'], row['kind'])}, {row['bits']} bits, largest level {three(row['d'])}"
    if row["form"] == "float":
        words += ", exact levels in float"
    if row["error"] is not None:
        words += f"; error of P V {three(row['error'])}"
        kinds = [f"{_KINDS.get(kind, kind)} {three(value)}" for kind, value in (row["by_kind"] or {}).items()]
        words += f" ({', '.join(kinds)})" if kinds else ""
    return words
