"""Diagnostics: decisions and findings that are not errors, with stable codes.

A code never changes its meaning. The hundreds say who speaks: 1xx reading and normalizing, 2xx calibration,
3xx planning, 4xx passes, 5xx TensorRT rules, 6xx onnxruntime, 7xx verification, 8xx output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import Enum


class Severity(str, Enum):
    """How much a diagnostic matters; `ERROR` makes `lint` fail."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: `QC504 error /enc/q: the zero point is not 0 (make the scheme symmetric)`.

    Attributes:
        code: Stable, "QC" and three digits.
        where: A node, tensor or file name; empty for the whole model.
        hint: The fix, where there is one.
    """

    code: str
    severity: Severity
    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f" {self.where}:" if self.where else ""
        tail = f" ({self.hint})" if self.hint else ""
        return f"{self.code} {self.severity.value}{place} {self.message}{tail}"

    def to_json(self) -> dict[str, str]:
        """The fields as plain strings, for report.json."""
        return {**asdict(self), "severity": self.severity.value}


@dataclass(slots=True)
class DiagnosticLog:
    """Diagnostics in the order in which they were found."""

    items: list[Diagnostic] = field(default_factory=list)

    def add(self, code: str, severity: Severity, where: str, message: str, hint: str = "") -> None:
        """Append one diagnostic."""
        self.items.append(Diagnostic(code, severity, where, message, hint))

    def extend(self, others: Iterable[Diagnostic]) -> None:
        """Append many."""
        self.items.extend(others)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def at_least(self, severity: Severity) -> list[Diagnostic]:
        """Those that matter at least as much as `severity`."""
        order = list(Severity)
        return [item for item in self.items if order.index(item.severity) >= order.index(severity)]
