"""The table of `python -m models list`: from the entries and the cards in the cache; nothing is fetched or run."""

from __future__ import annotations

from typing import Any

import models
from models import recorded
from models.assets import cache_folder
from models.card import is_whole, read_card, weight_bytes
from models.scoring import number


def rows() -> list[dict[str, Any]]:
    """One row an entry; parameters and size are None until it is in the cache."""
    found = []
    for name in models.TABLE:
        model, folder = models.load(name), cache_folder() / name
        card = read_card(folder)
        whole = card is not None and is_whole(card, folder, hashes=False)
        measured = (card or {}).get("float score") or {"measures": {}}
        scores = {key: item["value"] for key, item in measured["measures"].items()}
        for item in recorded.of(name):
            scores.setdefault(item.measure, item.value)
        found.append(
            {
                "name": name,
                "family": model.family,
                "parameters": card["parameters"] if card else None,
                "bytes": weight_bytes(card) if card else None,
                "licence": model.licence.partition(" (")[0],
                "cached": "yes" if whole else ("damaged" if card else "no"),
                "scores": scores,
            }
        )
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Aligned columns."""
    cells = [("name", "family", "params", "size", "licence", "cached", "float score")]
    for row in found:
        params = f"{row['parameters'] / 1e6:.2f} M" if row["parameters"] else "-"
        size = f"{row['bytes'] / 2**20:.0f} MiB" if row["bytes"] else "-"
        score = ", ".join(f"{key} {number(value)}" for key, value in row["scores"].items()) or "-"
        cells.append((row["name"], row["family"], params, size, row["licence"], row["cached"], score))
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]) - 1)]
    padded = [[cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)] for line in cells]
    return "\n".join("  ".join(line).rstrip() for line in padded)
