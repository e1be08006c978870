"""What every model of this folder offers: its file, its data, its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.errors import QcompileError

if TYPE_CHECKING:
    from pathlib import Path

    from models.bootstrap import Measure
    from models.packages import NpmFiles, WheelFiles
    from models.trained import TrainedWeights

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
Scores = dict[str, float]
Run = Callable[[Feeds], Mapping[str, Array]]
"""A model as a function: inputs to all outputs by name."""


@dataclass(frozen=True, slots=True)
class TestSet:
    """Inputs never used for calibration, and how outputs on them are judged.

    Attributes:
        batches: Inputs, in the order in which the outputs are handed back.
        measures: Outputs to task scores against true labels; empty where no labels are at hand.
        fidelity: Outputs and the float model's outputs to measures of their closeness.
        labels: What `measures` judges against, for test.npz.
    """

    __test__ = False  # not a test for pytest, whatever its name

    batches: Sequence[Feeds]
    measures: Callable[[Sequence[Array]], dict[str, Measure]]
    fidelity: Callable[[Sequence[Array], Sequence[Array]], Scores]
    labels: Mapping[str, Array] = field(default_factory=dict)

    def score(self, outputs: Sequence[Array]) -> Scores:
        """The task scores alone."""
        return {name: measure.point() for name, measure in self.measures(outputs).items()}


def joined(first: TestSet, *others: TestSet) -> TestSet:
    """One test set of several: all task scores, fidelity on the batches of the first."""
    sets = (first, *others)
    ends = np.cumsum([len(test.batches) for test in sets]).tolist()

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        found: dict[str, Measure] = {}
        for test, end in zip(sets, ends, strict=True):
            found |= test.measures(outputs[end - len(test.batches) : end])
        return found

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        return first.fidelity(outputs[: ends[0]], reference[: ends[0]])

    labels = {name: array for test in sets for name, array in test.labels.items()}
    return TestSet([feeds for test in sets for feeds in test.batches], measures, fidelity, labels)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Task scores as rows per item, and closeness to the float model (empty for the float model itself)."""

    measures: dict[str, Measure]
    fidelity: Scores


@dataclass(frozen=True, slots=True)
class Recorded:
    """A score of the float model that was measured once, with its interval, for comparison on other machines.

    Attributes:
        data: "registry", or "evaluation data" where QCOMPILE_DATA was needed.
        items: Test items behind it.
    """

    measure: str
    value: float
    low: float
    high: float
    items: int
    data: str = "registry"


@dataclass(frozen=True, slots=True)
class Form:
    """Another graph of an entry's weights, which `path` writes beside model.onnx.

    Attributes:
        what: In what it differs.
        calibration: Its batches where it takes other inputs than model.onnx.
    """

    file: str
    what: str
    calibration: Callable[[], list[Feeds]] | None = None

    @property
    def calibration_folder(self) -> str:
        """Where they lie: calibration_step for step.onnx."""
        return "calibration" if self.calibration is None else f"calibration_{self.file.partition('.')[0]}"


@dataclass(frozen=True, slots=True)
class RealModel:
    """A model of the zoo.

    Attributes:
        packages: Pinned requirements that bring its file, to install without their dependencies.
        output: Name of the output that is scored.
        path: Finds (or exports, once) the ONNX file; MissingAsset where its package is neither installed nor fetched.
        calibration: Calibration batches, disjoint from the test set, the same on every call.
        test_set: The test set; `quick` asks for a fraction of it.
        timing: The one input whose latency is measured.
        headlines: The measures to quote, the one that ranks variants first.
        family: What it is, in a few words.
        licence: Of the weights, and of the package where it is another.
        assets: What `get` fetches.
        notes: Catches that a reader of a score must know.
        scoring: A larger test set for `python -m models score`; `test_set` where None.
        evaluate: In place of both, for models that are run in steps: the model, the float model (None for the float
            model itself) and `quick` to scores.
        training: The script that trains it, a module under models.training; None for pretrained models.
        trained: The weights that training left in the repository.
        full: The model and the float model to scores on a test set of which others take a part.
        forms: Other graphs of the same weights.
        compare_forms: The entry's folder to max |x - model.onnx's x| of each form.
    """

    name: str
    packages: tuple[str, ...]
    output: str
    path: Callable[[], Path]
    calibration: Callable[[], list[Feeds]]
    test_set: Callable[[bool], TestSet]
    timing: Callable[[], Feeds]
    headlines: tuple[str, ...]
    family: str = ""
    licence: str = ""
    assets: tuple[WheelFiles | NpmFiles | TrainedWeights, ...] = ()
    notes: tuple[str, ...] = ()
    scoring: Callable[[bool], TestSet] | None = None
    evaluate: Callable[[Run, Run | None, bool], Evaluation] | None = None
    training: str | None = None
    trained: TrainedWeights | None = None
    full: Callable[[Run, Run | None], Evaluation] | None = None
    forms: tuple[Form, ...] = ()
    compare_forms: Callable[[Path], dict[str, float]] | None = None


class MissingAsset(QcompileError):
    """A package or a data file is not installed; the message says what to install."""
