"""A model with an outlier that only some tokens set off: the case in which the calibration set must matter.

In paraphrase-minilm's last block the input x of the first feed-forward product gets, at TRIGGERS, KICK in one channel,
and the weight's row of that channel a size at which this says LOUD times as much as all other channels together:

x @ W   becomes   (x + flag(token) KICK e_c) @ W',   |KICK W'_c| = LOUD typical |x @ W|

The planted model is its own float reference. It shows that the measurement finds a set that matters, and what spreading
the channel over all others, (x Q) @ (Q^T W') with Q orthogonal, does about it; not that real models are like this.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from models import paraphrase_minilm
from models.calibration_sets import Sets, refuse_test_samples, text_sets
from models.sentences import token_batch
from models.zoo import Array, Feeds
from qcompiler.graph import add_initializer, constant_array, make_node

KICK = 40.0
CHANNEL = 7
NODE = "layer.2/intermediate/dense/MatMul"
ROTATION = "planted/rotation"
TRIGGERS = ("the", ",", ".", "of", "a", "is", "to", "and")
SUBSTITUTE = "this"
TYPICAL, LOUD = 0.5, 2.0
"""TYPICAL is about the root mean square of x: |x @ W| is TYPICAL times the norm of W."""


def planted_arms(out: Path, count: int) -> dict[str, tuple[Path, Sets]]:
    """Name to model and sets: the real model, the planted one, and that with the channel spread by a rotation."""
    sets = trigger_sets(count)
    arms = {"arm-real": paraphrase_minilm.path()}
    for name, rotated in (("arm-planted", False), ("arm-planted-rotated", True)):
        folder = out / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        model = ir.load(paraphrase_minilm.path())
        plant(model, rotated=rotated)
        ir.save(model, folder / "model.onnx")
        arms[name] = folder / "model.onnx"
    return {name: (path, sets) for name, path in arms.items()}


def trigger_sets(count: int) -> Sets:
    """in_domain and shuffled hold TRIGGERS; without_trigger is in_domain with SUBSTITUTE in their place."""
    found = text_sets(count)
    replaced: list[Feeds] = []
    for feed in found["in_domain"]:
        ids = feed["input_ids"]
        replaced.append({**feed, "input_ids": np.where(np.isin(ids, _ids(TRIGGERS)), _ids((SUBSTITUTE,)), ids)})
    chosen: Sets = {"in_domain": found["in_domain"], "shuffled": found["shuffled"], "without_trigger": replaced}
    refuse_test_samples(chosen, paraphrase_minilm.MODEL.test_set(False).batches)
    return chosen


def plant(model: ir.Model, *, rotated: bool) -> None:
    """Edit `model` in place."""
    graph = model.graph
    node = next(node for node in graph if (node.name or "").endswith(NODE))
    value, weight = node.inputs[0], constant_array(node.inputs[1])
    ids = next(item for item in graph.inputs if item.name == "input_ids")
    if value is None or weight is None:
        raise ValueError(f"{NODE} is not what it was in this package")
    kick, table = np.zeros(weight.shape[0], np.float32), np.zeros((30522, 1), np.float32)
    kick[CHANNEL], table[_ids(TRIGGERS)] = KICK, 1.0
    planted = weight.copy()
    planted[CHANNEL] *= LOUD * TYPICAL * np.linalg.norm(weight) / KICK / np.linalg.norm(planted[CHANNEL])
    steps: list[tuple[str, list[ir.Value | None], str]] = [
        ("Gather", [add_initializer(graph, table, "planted/table"), ids], "planted/flag"),
        ("Mul", [add_initializer(graph, kick, "planted/direction")], "planted/kick"),
        ("Add", [value], "planted/kicked"),
    ]
    if rotated:
        rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((len(kick), len(kick))))
        steps.append(("MatMul", [add_initializer(graph, rotation.astype(np.float32), "planted/matrix")], ROTATION))
        planted = (rotation.T @ planted).astype(np.float32)
    last: ir.Value | None = None
    for op_type, inputs, output in steps:
        operands = inputs if last is None else [last, *inputs]
        made = make_node(op_type, operands, output=output, dtype=ir.DataType.FLOAT, shape=None)
        graph.insert_before(node, made)
        last = made.outputs[0]
    node.replace_input_with(0, last)
    old = node.inputs[1]
    node.replace_input_with(1, add_initializer(graph, planted, "planted/weight"))
    if old is not None and not old.uses():
        graph.initializers.pop(str(old.name), None)


def _ids(words: Sequence[str]) -> Array:
    return np.array([int(token_batch([word])["input_ids"][0, 1]) for word in words])
