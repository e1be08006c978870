"""Names and numbers as a reader wants them: short, few, the rest counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

_FEW = 3
_LONGEST = 48


def few(names: Iterable[str], shown: int = _FEW) -> str:
    """`a, b, c and 9 more`."""
    items = list(dict.fromkeys(names))
    text = ", ".join(shortened(item) for item in items[:shown])
    return f"{text} and {len(items) - shown} more" if len(items) > shown else text


def counted(words: Iterable[str], shown: int = 8) -> str:
    """`Add 4, Mul 2, Sqrt`; the most frequent first."""
    counts = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))
    parts = [word if count == 1 else f"{word} {count}" for word, count in counts[:shown]]
    rest = sum(count for _, count in counts[shown:])
    return ", ".join(parts) + (f" and {rest} more" if rest else "")


def shortened(name: str, longest: int = _LONGEST) -> str:
    """The name with its middle left out where it is long."""
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[-(longest - head - 1):]}"


def number(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def percent(ratio: float) -> str:
    """`+12.5%`, `-3%`; a factor from ten times on."""
    return f"x{1 + ratio:.3g}" if ratio > 9 else f"{100 * ratio:+.3g}%"


def size(count: int) -> str:
    """Bytes with a unit of thousands."""
    amount, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):  # noqa: B007  (the last one is kept)
        if amount < 1000:
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def shape(sizes: Sequence[object] | None) -> str:
    """`[N, 3, 224, 224]`; `?` for a size that has neither number nor name."""
    return "any shape" if sizes is None else "[" + ", ".join("?" if item is None else str(item) for item in sizes) + "]"
