"""The record of one proof."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Arithmetic = Literal["float64", "mixed", "float32"]


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """One tensor of both models.

    Attributes:
        difference: max |before - after| / max |before| over the samples; infinite where shapes, types, NaN or
            infinities differ.
        sample: "calibration 0", "random 1": where it was found.
    """

    name: str
    difference: float
    sample: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two models compared on the same inputs.

    Attributes:
        passes: Names of the passes between the models; empty for two files.
        calibration: Feeds taken from the calibration data.
        random: Seeded random feeds.
        arithmetic: "float64"; "mixed", float64 but for operators without such kernels (`notes` names them); "float32".
        bound: Largest difference that rounding explains; see `bound.rounding_bound`.
        outputs: The largest difference of any graph output.
        worst: The largest among all values compared: outputs and the values right behind the rewritten region.
        first: Where models differ, the first value over the bound in graph order; not searched for where they agree.
        failure: Why a model did not run; empty where both did.
        notes: What weakens the proof.
        seconds: What it took; not written to hashed files.
    """

    passes: tuple[str, ...]
    calibration: int
    random: int
    arithmetic: Arithmetic
    bound: float
    outputs: TensorDifference | None
    worst: TensorDifference | None
    holds: bool
    first: TensorDifference | None = None
    failure: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def reason(self) -> str:
        """Why it does not hold, in one line; empty where it does."""
        if self.holds:
            return ""
        if self.failure:
            return self.failure
        found = self.outputs if self.outputs is not None and self.outputs.difference > self.bound else self.worst
        if found is None:
            return "nothing could be compared"
        what = "output" if found is self.outputs else "tensor"
        line = (f"{what} {found.name!r} differs by {found.difference:.2g} of its largest magnitude on {found.sample} "
                f"({self.arithmetic}, bound {self.bound:.1g})")  # fmt: skip
        inner = [f"{word} tensor {item.name!r} by {item.difference:.2g}"
                 for word, item in (("worst", self.worst), ("first", self.first))
                 if item is not None and item.name != found.name]  # fmt: skip
        return "; ".join([line, *inner])

    def to_json(self) -> dict[str, Any]:
        """For report.json; differences to two digits, as more are noise of the processor."""
        return {
            "passes": list(self.passes),
            "samples": {"calibration": self.calibration, "random": self.random},
            "arithmetic": self.arithmetic,
            "bound": _rounded(self.bound),
            "outputs": _document(self.outputs),
            "worst": _document(self.worst),
            "first": _document(self.first),
            "holds": self.holds,
            "reason": self.reason,
            "notes": list(self.notes),
        }


def _document(item: TensorDifference | None) -> dict[str, Any] | None:
    return None if item is None else {"name": item.name, "difference": _rounded(item.difference), "sample": item.sample}


def _rounded(value: float) -> float | str:
    return float(f"{value:.1e}") if value - value == 0 else str(value)
