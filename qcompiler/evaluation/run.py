"""One pass of several models over the samples, with sums kept per tensor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.evaluation.accumulate import Fidelity
from qcompiler.evaluation.compare import Comparison
from qcompiler.evaluation.pairing import Pairing
from qcompiler.session import Arrays, Feeds, Session

Pairings = Mapping[str, tuple[str, str, Pairing]]
"""Name of a comparison to the reference's name, the candidate's name, and what is compared."""


def run_comparison(
    reference: ir.Model, candidate: ir.Model, batches: Iterable[Feeds], pairing: Pairing, *, threads: int = 0
) -> Comparison:
    """Compare what `pairing` pairs over all of `batches`; each model runs once per batch.

    Raises:
        ModelError: onnxruntime refuses a model.
    """
    models = {"reference": reference, "candidate": candidate}
    return run_comparisons(models, {"": ("reference", "candidate", pairing)}, batches, threads=threads)[""]


def run_comparisons(
    models: Mapping[str, ir.Model],
    pairings: Pairings,
    batches: Iterable[Feeds],
    *,
    threads: int = 0,
    plain: Collection[str] = (),
) -> dict[str, Comparison]:
    """Compare several pairs of `models`; each model runs once per batch however many pairs it is in.

    Args:
        plain: Names of models that run as they are written, without onnxruntime's optimizations.

    Raises:
        ModelError: onnxruntime refuses a model.
        CalibrationError: A model fails on a batch.
    """
    sessions = {}
    for name, model in models.items():
        try:
            sessions[name] = Session(model, _layers_of(name, pairings), threads=threads, optimize=name not in plain)
        except ModelError as error:
            raise ModelError(error.message, where=error.where or f"the {name}") from error
    widths = {name: _float_inputs(model) for name, model in models.items()}
    renamed = {theirs: pairing.inputs for _, theirs, pairing in pairings.values()}
    tallies = {
        name: _Tally(pairing, sessions[ours], sessions[theirs]) for name, (ours, theirs, pairing) in pairings.items()
    }
    for batch in batches:
        rows = _rows(batch)
        results = {
            name: session.run_sample(_feeds(session, batch, renamed.get(name), widths[name]))
            for name, session in sessions.items()
        }
        for name, (ours, theirs, _) in pairings.items():
            tallies[name].add(results[ours], results[theirs], rows)
    return {name: tally.result() for name, tally in tallies.items()}


class _Tally:
    """The sums of one pair of models."""

    def __init__(self, pairing: Pairing, reference: Session, candidate: Session) -> None:
        known = set(reference.output_names) & set(candidate.output_names)
        self._outputs = [(ours, theirs, Fidelity(ours)) for ours, theirs in pairing.outputs]
        self._layers = [(name, name, Fidelity(name)) for name in pairing.layers if name in known]
        self._samples = 0

    def add(self, expected: Arrays, got: Arrays, rows: int) -> None:
        """One batch."""
        self._samples += rows
        for ours, theirs, fidelity in (*self._outputs, *self._layers):
            if isinstance(expected[ours], np.ndarray):  # sequences come as lists
                fidelity.add(expected[ours], got[theirs], rows)

    def result(self) -> Comparison:
        """The figures; inner tensors of integers are left out, since a step more or less there is no divergence."""
        inner = (fidelity.result() for _, _, fidelity in self._layers)
        outputs = tuple(fidelity.result() for _, _, fidelity in self._outputs)
        return Comparison(self._samples, outputs, tuple(item for item in inner if not item.integer))


def _layers_of(model: str, pairings: Pairings) -> list[str]:
    names = (name for ours, theirs, pairing in pairings.values() if model in (ours, theirs) for name in pairing.layers)
    return list(dict.fromkeys(names))


def _feeds(
    session: Session, batch: Feeds, renamed: Mapping[str, str] | None, widths: Mapping[str, np.dtype[Any]]
) -> dict[str, np.ndarray[Any, Any]]:
    names = {name: name for name in batch} if renamed is None else renamed
    known = set(session.input_names)
    found = {theirs: batch[ours] for ours, theirs in names.items() if ours in batch and theirs in known}
    return {name: array.astype(widths[name], copy=False) if name in widths else array for name, array in found.items()}


def _float_inputs(model: ir.Model) -> dict[str, np.dtype[Any]]:
    """Element types of the float inputs: models may differ in them."""
    return {
        str(value.name): np.dtype(value.dtype.numpy())
        for value in model.graph.inputs
        if value.dtype is not None and value.dtype.is_floating_point()
    }


def _rows(batch: Feeds) -> int:
    """The leading size that all inputs share, else 1."""
    sizes = {array.shape[0] if array.ndim else 0 for array in batch.values()}
    return sizes.pop() if len(sizes) == 1 and 0 not in sizes else 1
