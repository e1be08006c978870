"""What an analysis can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from qcompiler.calibration.thresholds import Method
from qcompiler.options import CalibrationInput, CompileOptions

METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse")
ALL_METHODS: tuple[Method, ...] = get_args(Method)
SYNTHETIC = "synthetic"
"""In place of a path: seeded synthetic inputs, flagged in whatever is printed."""


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """Options of one analysis.

    Attributes:
        sets: Name to calibration data; the first stands for what the model will see, and quality is judged on samples
            held back from it (or on `base.validate`).
        base: Target, filters, preprocessing, threads and the like, as for a compile.
        sizes: Sample counts of the sweep; None takes 1, 8, 32, 128 as far as the samples go.
        seeds: Bootstrap draws per set and size.
        methods: Clipping rules to compare.
        tensors: Regular expression on tensor names to report beside what the planner quantizes; empty for none.
        evaluated: Samples held back, at most; a quarter of the first set where that is less.
    """

    sets: Mapping[str, CalibrationInput]
    base: CompileOptions = field(default_factory=CompileOptions)
    sizes: tuple[int, ...] | None = None
    seeds: int = 5
    methods: tuple[Method, ...] = METHODS
    tensors: str = ""
    evaluated: int = 8
