"""Times of a model's runs, kept in constant memory."""

from __future__ import annotations

import time
from collections import deque

_KEPT = 1000


class Latency:
    """Milliseconds of the last thousand runs; the first run, which allocates, is told apart."""

    def __init__(self) -> None:
        self.runs = 0
        self.first_ms: float | None = None
        self._last: deque[float] = deque(maxlen=_KEPT)
        self._since = time.perf_counter()

    def add(self, seconds: float) -> None:
        """Count one run."""
        self.runs += 1
        if self.first_ms is None:
            self.first_ms = seconds * 1e3
        else:
            self._last.append(seconds * 1e3)

    def percentile(self, share: float) -> float | None:
        """The smallest time that `share` percent of the kept runs don't exceed; None before the second run."""
        times = sorted(self._last)
        return times[max(0, -(-int(share * len(times)) // 100) - 1)] if times else None

    def report(self) -> dict[str, float | int | None]:
        """{"runs", "first_ms", "median_ms", "p90_ms", "p99_ms", "max_ms"}."""
        figures = {"median_ms": 50, "p90_ms": 90, "p99_ms": 99, "max_ms": 100}
        return {
            "runs": self.runs, "first_ms": self.first_ms,
            **{name: self.percentile(share) for name, share in figures.items()},
        }  # fmt: skip
