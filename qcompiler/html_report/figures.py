"""How numbers are written on the page."""

from __future__ import annotations

from typing import Any


def three(value: Any) -> str:
    """Three digits, and all of them before the point; texts ("inf", "nan") as they are."""
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def decibels(value: Any) -> str:
    """A ratio in dB with one decimal; equal tensors are "exact"."""
    if value in ("inf", float("inf")):
        return "exact"
    return f"{value:.1f} dB" if isinstance(value, (int, float)) else str(value)


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def share(value: float) -> str:
    """A share in percent; one that is not 0 never reads as 0."""
    if 0 < value < 1e-4:
        return "< 0.01%"
    return f"{value:.2%}" if value < 0.1 else f"{value:.1%}"


def count(number: int, one: str, many: str | None = None) -> str:
    """`3 nodes`, `1 node`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
