"""The entries mamba-lm and mamba2-lm, which differ in their module alone.

model.onnx reads a text with Scan, chunked.onnx reads it without a loop, step.onnx takes one token and the states that
either of them, or the step before, left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models import text_windows
from models.carried_states import CHUNKED, SEQUENCE, STEP, WAYS, differences, step_feeds, taken
from models.language import LOGITS
from models.trained import TrainedWeights, exported
from models.zoo import Array, Evaluation, Feeds, Form, RealModel, Run, TestSet

BATCH = 4
STEP_PREFIXES = (16, 64, 128, 240)  # tokens before the one of a calibration step
FORM_ROWS, FORM_TOKENS, FORM_PREFIX = 2, 160, 37  # on which the three graphs are compared: no whole chunks


def _feeds(rows: Array) -> Feeds:
    return {"input_ids": np.ascontiguousarray(rows)}


def calibration() -> list[Feeds]:
    """Windows of the training text, for model.onnx and chunked.onnx."""
    rows = text_windows.calibration_windows()[:, :-1]
    return [_feeds(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]


def test_set(quick: bool) -> TestSet:
    """Windows of the held-out texts."""
    return text_windows.token_test(text_windows.held_out("quick" if quick else "small"), _feeds, BATCH)


def evaluate(run: Run, reference: Run | None, quick: bool) -> Evaluation:
    """More and longer windows of the held-out texts."""
    return text_windows.evaluate(run, reference, text_windows.held_out("quick" if quick else "usual"), _feeds, BATCH)


def evaluate_all(run: Run, reference: Run | None) -> Evaluation:
    """All windows of the held-out texts."""
    return text_windows.evaluate(run, reference, text_windows.held_out("full"), _feeds, BATCH)


def timing() -> Feeds:
    """One window of 128 tokens."""
    return _feeds(text_windows.held_out("quick")["novel"][:1, :-1])


def state_space_entry(name: str, weights: TrainedWeights, family: str) -> RealModel:
    """The entry `name`, whose training script bears the name of the weights."""

    def write(module: Any, file: str, path: Path) -> Any:
        from models.export_states import export_way

        return export_way(module, WAYS[file], path, force=True)

    def path() -> Path:
        return exported(name, weights, tuple(WAYS), write)

    def step_calibration() -> list[Feeds]:
        """One token each behind the states that model.onnx left, of windows not all read to the same place."""
        from models.session import runner

        run, rows = runner(path()), text_windows.calibration_windows()
        batches = []
        for turn, before in enumerate(STEP_PREFIXES):
            part = rows[turn :: len(STEP_PREFIXES)]
            states = taken(run(_feeds(part[:, :before])))
            batches.append(step_feeds(part[:, before], states))
        return batches

    def compare(folder: Path) -> dict[str, float]:
        ids = text_windows.windows(text_windows.ids_of("test_novel"), FORM_TOKENS, FORM_ROWS)[:, :-1]
        return differences(folder, ids, FORM_PREFIX)

    return RealModel(
        name=name,
        packages=(),
        output=LOGITS,
        path=path,
        calibration=calibration,
        test_set=test_set,
        timing=timing,
        headlines=("kl", "agreement"),
        family=family,
        licence=text_windows.LICENCE,
        assets=(weights, text_windows.TEXT),
        notes=text_windows.NOTES,
        evaluate=evaluate,
        training=f"models.training.{weights.name}",
        trained=weights,
        full=evaluate_all,
        forms=(
            Form(CHUNKED, f"the same inputs and outputs as {SEQUENCE}, without a loop"),
            Form(STEP, "one token with past_conv_state.{i} and past_ssm_state.{i}", step_calibration),
        ),
        compare_forms=compare,
    )
