"""One pass of both models over the samples, with sums kept per tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.evaluation.accumulate import Fidelity
from qcompiler.evaluation.compare import Comparison
from qcompiler.evaluation.pairing import Pairing
from qcompiler.session import Feeds, Session


def run_comparison(
    reference: ir.Model, candidate: ir.Model, batches: Iterable[Feeds], pairing: Pairing, *, threads: int = 0
) -> Comparison:
    """Compare what `pairing` pairs over all of `batches`; each model runs once per batch.

    Raises:
        ModelError: onnxruntime refuses a model.
    """
    truth = Session(reference, pairing.layers, threads=threads)
    guess = Session(candidate, pairing.layers, threads=threads)
    outputs = [(ours, theirs, Fidelity(ours)) for ours, theirs in pairing.outputs]
    known = set(truth.output_names) & set(guess.output_names)
    layers = [(name, name, Fidelity(name)) for name in pairing.layers if name in known]
    samples = 0
    for batch in batches:
        rows = _rows(batch)
        samples += rows
        expected = truth.run({name: batch[name] for name in truth.input_names if name in batch})
        got = guess.run(_feeds_for(guess, batch, pairing))
        for ours, theirs, fidelity in (*outputs, *layers):
            if isinstance(expected[ours], np.ndarray):  # sequences come as lists
                fidelity.add(expected[ours], got[theirs], rows)
    inner = (item.result() for _, _, item in layers)
    return Comparison(
        samples, tuple(item.result() for _, _, item in outputs), tuple(item for item in inner if not item.integer)
    )


def _feeds_for(session: Session, batch: Feeds, pairing: Pairing) -> dict[str, np.ndarray[Any, Any]]:
    feeds = {theirs: batch[ours] for ours, theirs in pairing.inputs.items() if ours in batch}
    return {name: array for name, array in feeds.items() if name in session.input_names}


def _rows(batch: Feeds) -> int:
    """The leading size that all inputs share, else 1."""
    sizes = {array.shape[0] if array.ndim else 0 for array in batch.values()}
    return sizes.pop() if len(sizes) == 1 and 0 not in sizes else 1
