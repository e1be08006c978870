"""State-space models in three graphs, as models/export_states.py writes them: feeds, steps, how far they differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models.language import LOGITS
from models.session import runner
from models.zoo import Array, Feeds, Run

SEQUENCE, CHUNKED, STEP = "model.onnx", "chunked.onnx", "step.onnx"
WAYS = {CHUNKED: "chunked", STEP: "step", SEQUENCE: "sequence"}
"""File to the way of export; model.onnx last, so that a cut export is seen as none."""


def taken(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The next call's states out of one call's outputs: present_conv_state.0 becomes past_conv_state.0."""
    stem = "present_"
    return {f"past_{name.removeprefix(stem)}": array for name, array in outputs.items() if name.startswith(stem)}


def step_feeds(ids: Array, states: Mapping[str, Array]) -> Feeds:
    """Inputs of step.onnx for ids [rows], one token each."""
    return {"input_ids": np.asarray(ids, np.int64)[:, None], **states}


def stepped(step: Run, ids: Array, outputs: Mapping[str, Array]) -> tuple[Array, Mapping[str, Array]]:
    """Logits [rows, T, vocabulary] of ids [rows, T] one token at a time, behind the call that left `outputs`.

    Also the last call's outputs.
    """
    found = []
    for column in ids.T:
        outputs = step(step_feeds(column, taken(outputs)))
        found.append(outputs[LOGITS])
    return np.concatenate(found, axis=1), outputs


def differences(folder: Path, ids: Array, prefix: int) -> dict[str, float]:
    """max |x - model.onnx's x| over logits and final states of chunked.onnx and step.onnx on ids [rows, T].

    Args:
        prefix: Tokens that model.onnx reads before the steps begin.
    """
    run = {name: runner(folder / name) for name in WAYS}
    whole, chunked = (dict(run[name]({"input_ids": ids})) for name in (SEQUENCE, CHUNKED))
    start = run[SEQUENCE]({"input_ids": ids[:, :prefix]})
    logits, last = stepped(run[STEP], ids[:, prefix:], start)
    joined = {**last, LOGITS: np.concatenate([start[LOGITS], logits], axis=1)}
    return {CHUNKED: _largest(chunked, whole), STEP: _largest(joined, whole)}


def _largest(found: Mapping[str, Array], whole: Mapping[str, Array]) -> float:
    return max(float(np.abs(found[name] - array).max()) for name, array in whole.items())
