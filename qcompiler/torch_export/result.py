"""What an export gave: the file, how it was made, and how it compares with torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One graph input or output; a size that varies bears its name, one that is unknown "?"."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class ParityRow:
    """torch against onnxruntime on one set of inputs.

    Attributes:
        sizes: The varying sizes; empty where all are fixed.
        worst: Name of the output that differs most.
        difference: max |onnx - torch| / max(1, max |torch|) of that output; None where torch itself refused.
        problem: Why there is no difference, or what onnxruntime said.
    """

    sizes: tuple[tuple[str, int], ...]
    worst: str
    difference: float | None
    problem: str = ""

    @property
    def label(self) -> str:
        """The sizes as text."""
        return ", ".join(f"{name}={size}" for name, size in self.sizes) or "the example"


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A written ONNX file.

    Attributes:
        exporter: "dynamo" or "torchscript".
        failures: One line for each attempt that failed before.
        parity: One row per set of sizes; empty where the check was switched off.
        tolerance: The bound that every difference is within.
    """

    path: Path
    exporter: str
    failures: tuple[str, ...]
    opset: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parity: tuple[ParityRow, ...]
    tolerance: float
    notes: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            **asdict(self),
            "path": str(self.path),
            "parity": [
                {"sizes": dict(row.sizes), "worst": row.worst, "difference": row.difference, "problem": row.problem}
                for row in self.parity
            ],
        }

    def __str__(self) -> str:
        lines = [f"{self.path}: opset {self.opset}, {self.exporter} exporter"]
        lines += [f"  note    {line}" for line in (*self.failures, *self.notes)]
        for word, items in (("in", self.inputs), ("out", self.outputs)):
            lines += [f"  {word:<7} {line}" for line in _shortened([str(item) for item in items])]
        width = max((len(row.label) for row in self.parity), default=0)
        for row in self.parity:
            figure = row.problem if row.difference is None else f"{row.difference:.1e} ({row.worst})"
            lines.append(f"  parity  {row.label:<{width}}  {figure}")
        if self.parity:
            lines.append(f"  parity  is max |onnx - torch| / max(1, max |torch|), at most {self.tolerance:g}")
        else:
            lines.append("  parity  was not checked")
        return "\n".join(lines)


def _shortened(lines: list[str], most: int = 6) -> list[str]:
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"... and {len(lines) - most + 1} more, the last {lines[-1]}"]
