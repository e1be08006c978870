"""Task scores with intervals, and fidelity to float, of an entry's model or of any file with its interface."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from models.bootstrap import DRAWS, Interval, interval
from models.session import as_run, check_interface, graph_file, open_session
from models.zoo import Array, Evaluation, RealModel, Run, Scores, TestSet
from qcompiler.errors import QcompileError, UsageError


@dataclass(frozen=True, slots=True)
class Scored:
    """What was found for one file.

    Attributes:
        file: As the user named it; "float32" for the entry's own model.
        fidelity: Empty for the float model.
        error: Why there are no scores.
    """

    file: str
    measures: dict[str, Interval] = field(default_factory=dict)
    fidelity: Scores = field(default_factory=dict)
    error: QcompileError | None = None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        found = {"file": self.file, "measures": {k: asdict(v) for k, v in self.measures.items()}}
        return found | {"fidelity": self.fidelity} | ({"error": str(self.error)} if self.error else {})


def data_kind() -> str:
    """Which data scores rest on."""
    return "evaluation data" if os.environ.get("QCOMPILE_DATA") else "registry"


def score(model: RealModel, files: Sequence[Path] = (), *, quick: bool = False, draws: int = DRAWS) -> list[Scored]:
    """The float model's scores, then those of each file; a file that fails has its error instead."""
    original = open_session(model.path())
    test = None if model.evaluate else (model.scoring or model.test_set)(quick)
    reference = as_run(original)
    kept = [] if test is None else _outputs(model, test, reference)
    found = [_scored("float32", _judge(model, test, reference, None, kept, quick), draws)]
    for file in files:
        try:
            session = open_session(graph_file(file))
            check_interface(session, original, str(file))
            found.append(_scored(str(file), _judge(model, test, as_run(session), reference, kept, quick), draws))
        except QcompileError as error:
            found.append(Scored(str(file), error=error))
    return found


def whole_test(model: RealModel) -> RealModel:
    """The entry, scored on all of its test set; UsageError where it always is."""
    full = model.full
    if full is None:
        raise UsageError(f"{model.name} has no larger test set", hint="leave out --full")
    return replace(model, evaluate=lambda run, reference, quick: full(run, reference))


def _judge(
    model: RealModel, test: TestSet | None, run: Run, reference: Run | None, kept: Sequence[Array], quick: bool
) -> Evaluation:
    """`reference` is None for the float model itself, whose outputs are `kept`."""
    if model.evaluate is not None:
        return model.evaluate(run, reference, quick)
    assert test is not None
    outputs = kept if reference is None else _outputs(model, test, run)
    return Evaluation(test.measures(outputs), {} if reference is None else test.fidelity(outputs, kept))


def _outputs(model: RealModel, test: TestSet, run: Run) -> list[Array]:
    return [run(feeds)[model.output] for feeds in test.batches]


def _scored(file: str, evaluation: Evaluation, draws: int) -> Scored:
    measures = {name: interval(measure, draws=draws) for name, measure in evaluation.measures.items()}
    return Scored(file, measures, evaluation.fidelity)


def text(name: str, rows: Sequence[Scored]) -> str:
    """Scores for a reader."""
    lines = []
    for row in rows:
        lines.append(f"{name}: {row.file}")
        lines += [f"  {measure:<22} {written(found)}" for measure, found in row.measures.items()]
        lines += [f"  {measure:<22} {number(value)} to float" for measure, value in row.fidelity.items()]
        if not row.measures and not row.fidelity and not row.error:
            lines.append("  no labels at hand: this entry is scored by its fidelity alone (QCOMPILE_DATA adds labels)")
        if row.error:
            lines.append(f"  failed: {row.error}")
    return "\n".join(lines)


def written(found: Interval) -> str:
    """Value, 95% interval and number of items."""
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}] of {found.items}"


def number(value: float) -> str:
    """Four decimals below 10, two above."""
    if value == float("inf"):
        return "exact"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"
